"""A small map of the picture's context, fused from all stages."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor

from csrm_plugin.utils import UserError


@MODELS.register_module()
class ContextHead(BaseModule):
    """The fused context map that RML compares between its views: its feature level.

    The stages are brought to the size of the finest one, concatenated, and go through a 1x1 convolution, batch
    normalisation and ReLU.

    Args:
        in_channels (Sequence[int]): Channels of the stages used, in the order of ``in_index``.
        channels (int): Channels of the map.
        norm_cfg (dict, optional): Norm layer; batch normalisation by default.
        in_index (Sequence[int], optional): Which of the backbone's outputs to use; all by default.
        init_cfg (dict, optional): Initialisation.

    Raises:
        UserError: If ``in_channels`` and ``in_index`` differ in length.
    """

    align_corners = False

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 15,
        norm_cfg: dict | None = None,
        in_index: Sequence[int] | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if in_index is not None and len(in_index) != len(in_channels):
            raise UserError(
                f'`in_channels` and `in_index` of ContextHead must have one entry for each stage, but have '
                f'{len(in_channels)} and {len(in_index)}.'
            )
        self.in_channels, self.in_index = list(in_channels), in_index
        self.channels = channels
        self.fuse = ConvModule(sum(in_channels), channels, 1, norm_cfg=norm_cfg or dict(type='BN'))

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Fuse the stages.

        Args:
            features (tuple[Tensor]): Outputs of the backbone, each (B, channels, h, w), float.

        Returns:
            Tensor: (B, ``channels``, h, w), float, 0 or above, at the size of the finest stage used.

        Raises:
            UserError: If the stages are not those of ``in_channels``.
        """
        stages = list(features) if self.in_index is None else [features[index] for index in self.in_index]
        found = [stage.shape[1] for stage in stages]
        if found != self.in_channels:
            raise UserError(
                f'The backbone gives stages of {found} channels, but `model.context_head.in_channels` is '
                f'{self.in_channels}.'
            )
        size = max((stage.shape[2:] for stage in stages), key=lambda size: size[0] * size[1])
        maps = [resize(stage, size, mode='bilinear', align_corners=self.align_corners) for stage in stages]
        return self.fuse(torch.cat(maps, dim=1))
