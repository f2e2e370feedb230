"""The synthetic data set as a registered class that draws its pictures on first use."""

from mmengine.logging import print_log
from mmseg.registry import DATASETS

from csrm_plugin.datasets.image_label_dataset import ImageLabelDataset
from csrm_plugin.datasets.synthetic import CLASSES, ensure_synthetic
from csrm_plugin.datasets.voc_layout import BACKGROUND, voc_palette


@DATASETS.register_module()
class SyntheticWSSSDataset(ImageLabelDataset):
    """Synthetic pictures for the demo and the tests, see :mod:`csrm_plugin.datasets.synthetic`.

    Args:
        data_root (str): Folder to make; it must be missing, empty, or hold data of the same settings.
        image_size (tuple[int, int]): Width and height in pixels.
        num_train (int): Pictures of the split ``train``.
        num_val (int): Pictures of the split ``val``.
        seed (int): Seed of the pictures.
        **kwargs: See :class:`ImageLabelDataset`.
    """

    METAINFO = dict(classes=(BACKGROUND, *CLASSES), palette=voc_palette(len(CLASSES) + 1))
    ROOT_VARIABLE = 'DEMO_ROOT'

    def __init__(
        self,
        data_root: str = 'data/demo',
        image_size: tuple[int, int] = (128, 96),
        num_train: int = 160,
        num_val: int = 48,
        seed: int = 0,
        **kwargs,
    ) -> None:
        self.settings = dict(image_size=tuple(image_size), num_train=num_train, num_val=num_val, seed=seed)
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Draw the pictures if they are not there, then read the split."""
        if ensure_synthetic(self.data_root, **self.settings):
            print_log(
                f'Drew {self.settings["num_train"]} + {self.settings["num_val"]} synthetic pictures in '
                f'{self.data_root}.',
                logger='current',
            )
        return super().load_data_list()
