"""Heads that say how likely two positions of a feature map are of the same class."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.utils import UserError

# B batch, M attention maps (blocks x heads), n positions of the feature map (h * w, row by row), D width of one map


@MODELS.register_module()
class AffinityHead(BaseModule):
    """Affinities of all pairs of positions, from the attention maps of the backbone: the pixel level of RML.

    A 1x1 convolution weighs the M attention logits of a pair, both directions count alike, and a sigmoid gives the
    affinity. It starts as the sigmoid of their mean.

    Args:
        num_maps (int): Number M of attention maps, blocks times heads; 16 for the last stage of a MiT-B1.
        init_cfg (dict, optional): Defaults to weights of 1 / M and a bias of 0.

    Raises:
        UserError: If ``num_maps`` is below 1.
    """

    #: Whether `forward` needs the backbone's attention maps (`forward_with_attention`).
    needs_attention = True

    def __init__(self, num_maps: int, init_cfg: dict | list | None = None) -> None:
        if num_maps < 1:
            raise UserError(f'`num_maps` of {type(self).__name__} must be 1 or more, but got {num_maps}.')
        super().__init__(init_cfg or dict(type='Constant', val=1 / num_maps, override=dict(name='conv')))
        self.num_maps = num_maps
        self.conv = nn.Conv2d(num_maps, 1, 1)

    def forward(self, features: tuple[Tensor, ...], attentions: Tensor | None = None) -> Tensor:
        """Affinities of one picture's positions to each other.

        Args:
            features (tuple[Tensor]): Outputs of the backbone; not used here.
            attentions (Tensor): (B, M, n, n), float: attention logits before the softmax.

        Returns:
            Tensor: (B, n, n), float32, in 0..1 and symmetric.

        Raises:
            UserError: If there are no attention maps, or not ``num_maps`` of them.
        """
        if attentions is None:
            raise UserError(
                f'{type(self).__name__} needs a backbone with attention maps (`forward_with_attention`), such as '
                'AttentionMixVisionTransformer; for any other use `model.affinity_head.type=AttentionAffinityHead`.'
            )
        if attentions.shape[1] != self.num_maps:
            raise UserError(
                f'The backbone gives {attentions.shape[1]} attention maps (blocks x heads), but '
                f'`model.affinity_head.num_maps` is {self.num_maps}.'
            )
        return self.pair_affinities(attentions)

    def grid(self, features: tuple[Tensor, ...]) -> tuple[int, int]:
        """Height and width (h, w) of the positions that the affinities are about: of the backbone's last output."""
        return tuple(features[-1].shape[2:])

    def pair_affinities(self, logits: Tensor) -> Tensor:
        """Affinities (B, n, n), float32, 0..1, of attention logits (B, M, n, n) of any precision."""
        # Logits of tens are common: half precision would round the affinities of near positions to 1.
        with torch.autocast(logits.device.type, enabled=False):
            pairs = self.conv(logits.float())[:, 0]
        # The convolution treats each pair alone, so its mean with the transpose is that of the maps, at 1/M the cost.
        return torch.sigmoid((pairs + pairs.transpose(1, 2)) / 2)


@MODELS.register_module()
class AttentionAffinityHead(AffinityHead):
    """The same for backbones without attention maps: it makes its own from one or several feature maps.

    Queries and keys are 1x1 convolutions of the normalised features (LayerNorm over the channels of each map), as in
    the first half of an attention block. Several maps are brought to the size of the finest one and concatenated, so
    that positions can be finer than those of the last stage.

    Args:
        in_channels (int | Sequence[int]): Channels of the feature maps, in the order of ``in_index``.
        embed_dims (int): Channels of queries and keys, over all heads.
        num_heads (int): Attention maps to make; a divisor of ``embed_dims``.
        in_index (int | Sequence[int]): Which of the backbone's outputs to use.
        init_cfg (dict, optional): As for the parent.

    Raises:
        UserError: If ``num_heads`` is below 1 or does not divide ``embed_dims``, or if ``in_channels`` and ``in_index``
            differ in length.
    """

    needs_attention = False
    align_corners = False

    def __init__(
        self,
        in_channels: int | Sequence[int],
        embed_dims: int = 128,
        num_heads: int = 8,
        in_index: int | Sequence[int] = -1,
        init_cfg: dict | list | None = None,
    ) -> None:
        if num_heads < 1 or embed_dims % num_heads:
            raise UserError(
                f'`num_heads` of AttentionAffinityHead must divide `embed_dims`, but got {num_heads} and {embed_dims}.'
            )
        channels, indices = ([value] if isinstance(value, int) else list(value) for value in (in_channels, in_index))
        if len(channels) != len(indices):
            raise UserError(
                '`in_channels` and `in_index` of AttentionAffinityHead must have one entry for each stage, but have '
                f'{len(channels)} and {len(indices)}.'
            )
        super().__init__(num_heads, init_cfg)
        self.in_index = indices
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in channels)
        self.query = nn.Conv2d(sum(channels), embed_dims, 1)
        self.key = nn.Conv2d(sum(channels), embed_dims, 1)

    def grid(self, features: tuple[Tensor, ...]) -> tuple[int, int]:
        """Height and width (h, w) of the positions that the affinities are about: of the finest map used."""
        sizes = [tuple(features[index].shape[2:]) for index in self.in_index]
        return max(sizes, key=lambda size: size[0] * size[1])

    def forward(self, features: tuple[Tensor, ...], attentions: Tensor | None = None) -> Tensor:
        """Affinities of one picture's positions to each other.

        Args:
            features (tuple[Tensor]): Outputs of the backbone, each (B, channels, h, w), float.
            attentions (None): Not used here.

        Returns:
            Tensor: (B, n, n), float32, in 0..1 and symmetric; n = h * w of :meth:`grid`.
        """
        size, maps = self.grid(features), []
        with torch.autocast(features[0].device.type, enabled=False):
            for index, norm in zip(self.in_index, self.norms):
                normed = norm(features[index].float().permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                maps.append(resize(normed, size, mode='bilinear', align_corners=self.align_corners))
            stacked = torch.cat(maps, dim=1)
            # (B, heads, D, n)
            query, key = (
                projection(stacked).flatten(2).unflatten(1, (self.num_maps, -1))
                for projection in (self.query, self.key)
            )
            logits = query.transpose(2, 3) @ key / query.shape[2] ** 0.5
        return self.pair_affinities(logits)
