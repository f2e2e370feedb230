"""Any model of timm that gives feature maps, as a backbone."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from packaging.version import Version
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from csrm_plugin.models.layers import split_norm_act
from csrm_plugin.utils import UserError
from csrm_plugin.utils.spelling import nearest

#: From here on every model gives its maps, and keeps nothing that they do not need.
OLDEST_TIMM = '1.0.31'

#: What lets a transformer see pictures of other sizes than its own; the first that a model knows is taken.
_ANY_SIZE = (dict(dynamic_img_size=True, dynamic_img_pad=True), dict(dynamic_img_size=True), {})

#: Arguments of timm that no config sets -> what there is instead.
_TAKEN = {
    **dict.fromkeys(
        ('pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'checkpoint_path', 'cache_dir'),
        "weights come from a file, `init_cfg=dict(type='OptionalPretrained', checkpoint=FILE)`; nothing is downloaded",
    ),
    **dict.fromkeys(('num_classes', 'global_pool'), 'a backbone has no classifier'),
    **dict.fromkeys(('features_only', 'feature_cls'), 'maps are what `out_indices` chooses'),
}


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A model of `timm <https://github.com/huggingface/pytorch-image-models>`_ without its classifier.

    ``TimmBackbone(name='tf_efficientnet_lite0', out_indices=(1, 4), output_stride=16)`` gives the maps of strides 4 and
    16. A convolutional network has one map for the stem and for each stage, mostly of strides 2, 4, 8, 16 and 32. Of a
    vision transformer every block is one: the grid of its patches, without class and register tokens.

    Weights come from a local file, never from the network. It may have timm's own names or those of this class::

        init_cfg=dict(type='OptionalPretrained', checkpoint='{{$LITE0_WEIGHTS:none}}', hint='$LITE0_WEIGHTS')

    Attributes:
        network (nn.Module): The model of timm, without what comes after the last map.
        out_indices (tuple[int, ...]): Maps that ``forward`` gives, counted from 0.
        out_channels (tuple[int, ...]): Channels of those, which heads need as ``in_channels``.
        out_strides (tuple[int, ...]): Pixels of the picture, along one side, for each position of those.

    Args:
        name (str): One of ``timm.list_models()``.
        out_indices (Sequence[int]): Which maps to give, in ascending order; -1 is the last one.
        output_stride (int, optional): Stride of the last map; stages that would go beyond it are dilated instead. By
            default the model's own.
        norm_cfg (dict, optional): Of the batch norm layers: ``type``, `BN` or `SyncBN`, and ``requires_grad``. Others
            stay as they are. By default `BN`, trained.
        norm_eval (bool): Whether batch norm layers keep their statistics in training; their weights are trained unless
            ``norm_cfg`` says otherwise.
        final_norm (bool): Whether maps are taken after the norm layer that a transformer has in front of its
            classifier. Networks without one do not mind, but for a few that refuse.
        init_cfg (dict, optional): Where weights come from. By default they are random, as timm makes them.
        kwargs: Arguments of timm for this model, such as ``drop_path_rate``, or ``img_size`` for one that sees pictures
            of one size alone.

    Raises:
        UserError: If timm is missing, has no such model, or has it but not with these settings.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (-1,),
        output_stride: int | None = None,
        norm_cfg: Mapping | None = None,
        norm_eval: bool = False,
        final_norm: bool = True,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.name, self.norm_eval, self.final_norm = name, norm_eval, final_norm
        self.network, infos, self.out_indices = build_network(name, out_indices, output_stride, **kwargs)
        if hasattr(self.network, 'prune_intermediate_layers'):
            self.network.prune_intermediate_layers(list(self.out_indices), prune_norm=not final_norm)
        self._set_norms(**(norm_cfg or {}))
        channels = 'num_chs_norm' if final_norm else 'num_chs'
        self.out_channels = tuple(info.get(channels, info['num_chs']) for info in infos)
        self.out_strides = tuple(info['reduction'] for info in infos)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of ``out_indices``.

        Args:
            x (Tensor): Normalised pictures (B, 3, H, W), float.

        Returns:
            tuple[Tensor, ...]: Each (B, out_channels[i], ceil(H / out_strides[i]), ceil(W / out_strides[i])), give or
            take one position for networks that do not pad.

        Raises:
            UserError: If the model cannot see pictures of this size.
        """
        try:
            if not hasattr(self.network, 'forward_intermediates'):
                return tuple(self.network(x))
            return tuple(
                self.network.forward_intermediates(
                    x,
                    indices=list(self.out_indices),
                    norm=self.final_norm,
                    output_fmt='NCHW',
                    intermediates_only=True,
                )
            )
        except (AssertionError, RuntimeError) as error:
            settings = self.network.pretrained_cfg
            # Other errors of torch, such as that of memory, are not about the size.
            if isinstance(error, AssertionError) or settings.get('fixed_input_size'):
                height, width = x.shape[2:]
                own = ' x '.join(map(str, settings['input_size'][1:]))
                raise UserError(
                    f'backbone `{self.name}` gives no maps of {height} x {width} pixels: '
                    f'{str(error).rstrip(".") or type(error).__name__}. It was made for {own}; scale pictures to that, '
                    'set `model.backbone.img_size`, or take another model.'
                ) from error
            raise

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Switch between training and evaluation; batch norm stays in evaluation with ``norm_eval``."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names. Without it, the weights stay those that timm has drawn."""
        if self.init_cfg:
            super().init_weights()

    def own_names(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors with timm's names under the names that they have here; others keep theirs."""
        own, renamed = self.network.state_dict(), {}
        for name, tensor in state_dict.items():
            layer, _, kind = name.rpartition('.')
            names = name, f'{layer}.norm.{kind}'  # the latter by `split_norm_act`
            renamed[next((f'network.{found}' for found in names if found in own), name)] = tensor
        return renamed

    def _set_norms(self, type: str = 'BN', requires_grad: bool = True, **unknown: Any) -> None:
        """Make the batch norm layers what ``norm_cfg`` says."""
        if type not in ('BN', 'SyncBN') or unknown:
            raise UserError(
                '`model.backbone.norm_cfg` of `TimmBackbone` has `type`, BN or SyncBN, and `requires_grad`, but got '
                f'{dict(type=type, **unknown)}.'
            )
        split_norm_act(self.network)
        if type == 'SyncBN':
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.requires_grad_(requires_grad)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Take timm's names, too, whoever loads."""
        names = [name for name in state_dict if name.startswith(prefix)]
        tensors = self.own_names({name[len(prefix) :]: state_dict.pop(name) for name in names})
        state_dict.update({prefix + name: tensor for name, tensor in tensors.items()})
        super()._load_from_state_dict(state_dict, prefix, *args)


def import_timm() -> ModuleType:
    """The package timm; ``UserError`` with the mend if it cannot be imported, or is too old."""
    try:
        timm = importlib.import_module('timm')
    except (ImportError, RuntimeError) as error:  # the latter: torchvision beside a torch that it was not built for
        raise UserError(
            f'`TimmBackbone` needs the package timm, which cannot be imported ({error}). Mend: `pip install timm`, or '
            "`pip install -e '.[timm]'`."
        ) from error
    if Version(timm.__version__) < Version(OLDEST_TIMM):
        raise UserError(
            f'`TimmBackbone` needs timm {OLDEST_TIMM} or newer, but {timm.__version__} is installed. Mend: '
            '`pip install -U timm`.'
        )
    return timm


def build_network(
    name: str, out_indices: Sequence[int], output_stride: int | None, **kwargs: Any
) -> tuple[nn.Module, list[dict], tuple[int, ...]]:
    """Make a model of timm with random weights; see :class:`TimmBackbone` for arguments and errors.

    Returns:
        tuple[nn.Module, list[dict], tuple[int, ...]]: The model; of each map chosen what timm says of it, ``num_chs``
        and ``reduction`` among it; and the indices, counted from 0.
    """
    timm = import_timm()
    _check_settings(timm, name, kwargs)
    network = None
    if output_stride is not None:
        network = _try(timm, name, dict(kwargs, num_classes=0, output_stride=output_stride))[0]
        if network is not None and _maps(network, name)[-1]['reduction'] != output_stride:
            network = None
    if network is None:
        network, error = _try(timm, name, dict(kwargs, num_classes=0))
        if network is None:
            raise UserError(f'timm cannot make `{name}` with the settings of `model.backbone`: {error}') from error
    infos = _maps(network, name)
    indices = _choose(out_indices, len(infos), name)
    own_stride = infos[-1]['reduction']
    infos = [infos[index] for index in indices]
    if output_stride in (None, own_stride):
        return network, infos, indices
    # Some models can be dilated only where timm gives their maps alone.
    maps = dict(features_only=True, out_indices=indices, output_stride=output_stride)
    network = _try(timm, name, dict(kwargs, **maps))[0]
    if network is None or _maps(network, name)[-1]['reduction'] != output_stride:
        raise UserError(
            f'`model.backbone.output_stride` of `{name}` cannot be {output_stride}, for timm does not dilate it that '
            f'way; its own is {own_stride}. Leave it out, or take another model.'
        )
    return network, network.feature_info.get_dicts(), indices


def _check_settings(timm: ModuleType, name: str, kwargs: Iterable[str]) -> None:
    """Refuse what is no model, and arguments that would bring weights or a classifier."""
    for key in kwargs:
        if key in _TAKEN:
            raise UserError(f'`model.backbone.{key}` is not for `TimmBackbone`: {_TAKEN[key]}.')
    if not timm.is_model(name):
        near = nearest(name.partition('.')[0], timm.list_models(), cutoff=0)
        raise UserError(
            f'`model.backbone.name` is `{name}`, which is no model of timm {timm.__version__}; did you mean `{near}`?'
        )


def _try(timm: ModuleType, name: str, kwargs: dict) -> tuple[nn.Module | None, Exception | None]:
    """The model, for pictures of any size if it can be; or None and why timm refuses."""
    error = None
    for options in _ANY_SIZE:
        try:
            return timm.create_model(name, pretrained=False, **{**options, **kwargs}), None
        except (TypeError, AssertionError, ValueError, RuntimeError) as refusal:
            error = refusal
    return None, error


def _maps(network: nn.Module, name: str) -> list[dict]:
    """What timm says of each map of a model."""
    infos = getattr(network, 'feature_info', None)
    if not infos:
        raise UserError(f'timm gives no feature maps of `{name}` (`model.backbone.name`); take another model.')
    return list(getattr(infos, 'info', infos))


def _choose(out_indices: Sequence[int], count: int, name: str) -> tuple[int, ...]:
    """Indices counted from 0, after a check."""
    indices = tuple(index + count if index < 0 else index for index in out_indices)
    if not indices or list(indices) != sorted(set(indices)) or indices[0] < 0 or indices[-1] >= count:
        raise UserError(
            f'`model.backbone.out_indices` must be ascending numbers from 0 to {count - 1}, the maps of `{name}` (-1: '
            f'the last), but is {tuple(out_indices)}.'
        )
    return indices
