"""TensorBoard as a backend of MMEngine's visualizer."""

import os
from typing import TYPE_CHECKING

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import VISBACKENDS
from mmengine.visualization import TensorboardVisBackend

from csrm_plugin.tracking.scalars import as_number, own_times

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@VISBACKENDS.register_module()
class OptionalTensorboardBackend(TensorboardVisBackend):
    """MMEngine's TensorBoard backend that begins with the first value, and is silent where TensorBoard is missing.

    The host's writes a file for every scoring of a checkpoint, and refuses to go on without the package.

    Args:
        save_dir (str): Folder of the event files.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir)
        self._config, self._tensorboard, self._off = None, None, False

    @property
    def experiment(self) -> 'SummaryWriter | None':
        """The ``SummaryWriter``; None where nothing is written."""
        return self._tensorboard if self._begin() else None

    def add_config(self, config: Config, **kwargs) -> None:
        """Keep the config until there is something to write."""
        self._config, self._off = config, False

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """Write a picture (H, W, 3), uint8, RGB, at an iteration."""
        if self._begin():
            self._tensorboard.add_image(name, image, step, dataformats='HWC')

    def add_scalar(self, name: str, value: object, step: int = 0, **kwargs) -> None:
        """Write a number at an iteration; anything else is left out."""
        number = as_number(value)
        if number is not None and self._begin():
            self._tensorboard.add_scalar(name, number, step)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs) -> None:
        """Write numbers at an iteration."""
        for name, value in own_times(scalar_dict).items():
            self.add_scalar(name, value, step)

    def close(self) -> None:
        """End the file."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard, self._off = None, True

    def _init_env(self) -> None:
        """Begin; for MMEngine, which may ask for it."""
        self._begin()

    def _begin(self) -> bool:
        """Begin the file if there is none; gives whether there is one."""
        if self._tensorboard is not None or self._off:
            return self._tensorboard is not None
        self._off = True  # until all went well
        if not is_main_process():
            return False
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print_log(
                'TensorBoard is not installed (`pip install tensorboard`), so that nothing is written for it.',
                'current',
            )
            return False
        os.makedirs(self._save_dir, exist_ok=True)
        self._tensorboard, self._off = SummaryWriter(self._save_dir), False
        if self._config is not None:
            self._tensorboard.add_text('config', f'<pre>{self._config.pretty_text}</pre>')
        return True
