"""Networks to compare, built from their configs with random weights."""

import importlib.util
import os.path as osp
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.config.load import load_config
from csrm_plugin.models.checkpoints.prediction import prediction_settings
from csrm_plugin.utils import UserError
from csrm_plugin.utils.quiet import quiet


@dataclass
class Candidate:
    """A network, and how it sees a picture.

    Attributes:
        name (str): Name of the config.
        model (BaseSegmentor): In evaluation mode, with random weights.
        scales (tuple[float]): Sizes, relative to the input, that one prediction sees.
        flip (bool): Whether each is also seen mirrored.
    """

    name: str
    model: nn.Module = field(repr=False)
    scales: tuple = (1.0,)
    flip: bool = False

    @property
    def views(self) -> str:
        """The views in words, such as ``0.5 1 1.5, flip``."""
        return ' '.join(f'{scale:g}' for scale in self.scales) + (', flip' if self.flip else '')

    @property
    def backbone(self) -> nn.Module | None:
        """The backbone that predicts: of a teacher and its student one does."""
        return getattr(getattr(self.model, 'predictor', self.model), 'backbone', None)

    def predict(self, inputs: Tensor) -> None:
        """Predict normalised pictures (B, 3, H, W), from the input to label maps of its size.

        A model with views of its own (``prediction_views``) is told these; of any other each view is predicted.
        """
        if own_views(self.model) is not None:
            self.model.prediction_views = self.scales, self.flip
            self.model.predict(inputs)
            return
        for scale in self.scales:
            view = inputs if scale == 1 else resize(inputs, scale_factor=scale, mode='bilinear', align_corners=False)
            self.model.predict(view)
            if self.flip:
                self.model.predict(view.flip(3))


def own_views(model: nn.Module) -> tuple | None:
    """``prediction_views`` of a model, see :class:`WSSSSegmentor`; None for those of the host."""
    return getattr(model, 'prediction_views', None)


@contextmanager
def around_backbone(candidate: Candidate, enter: Callable, leave: Callable) -> Iterator[None]:
    """Call ``enter`` before and ``leave`` after each pass of the candidate's backbone, as torch calls its hooks."""
    backbone, handles = candidate.backbone, []
    if backbone is not None:
        handles = [backbone.register_forward_pre_hook(enter), backbone.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def read_any_config(config: str) -> Config:
    """Read a config file; ``PACKAGE::NAME`` is one that an installed host package brings, as in ``_base_``.

    Raises:
        UserError: If there is no such package or file, or no model in it.
    """
    package, separator, name = config.partition('::')
    path = config
    if separator:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f'config `{config}`: there is no package `{package}`; did you mean mmseg::{name}?')
        path = osp.join(spec.submodule_search_locations[0], '.mim', 'configs', name)
    cfg = load_config(path)
    if 'model' not in cfg:
        raise UserError(f'config `{config}` has no model')
    return cfg


def count_classes(cfg: Config, config: str) -> int:
    """Classes of a config's network, background included.

    Raises:
        UserError: If the config does not say.
    """
    if 'cam_head' in cfg.model:
        return cfg.model.cam_head.num_classes + 1
    if 'decode_head' in cfg.model and not isinstance(cfg.model.decode_head, list):
        return cfg.model.decode_head.num_classes
    raise UserError(
        f'config `{config}` has neither a cam_head nor one decode_head that says its classes; set --classes'
    )


def build_model(cfg: Config, config: str, classes: int) -> nn.Module:
    """Build a network for predictions, with random weights.

    Args:
        cfg (mmengine.config.Config): From :func:`read_any_config`; left as it is.
        config (str): Its name, for messages.
        classes (int): Classes, background included: every head gets as many, or one less where it has no background.

    Returns:
        BaseSegmentor: In evaluation mode, on the CPU.

    Raises:
        UserError: If it is none that predicts pictures.
    """
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    settings = prediction_settings(cfg.model)
    for name in ('decode_head', 'auxiliary_head'):
        heads = settings.get(name) or []
        for head in heads if isinstance(heads, list) else [heads]:
            head['num_classes'] = classes
            head.pop('out_channels', None)
    if 'cam_head' in settings:
        settings['cam_head']['num_classes'] = classes - 1
    with quiet():
        model = MODELS.build(settings)
        if not hasattr(model, 'predict'):
            raise UserError(f'config `{config}`: a {type(model).__name__} does not predict pictures')
        model.init_weights()
    return revert_sync_batchnorm(model).eval()
