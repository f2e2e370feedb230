"""The transformer of SegFormer, with the attention of its last stage."""

from contextlib import ExitStack

import torch
from mmseg.models.backbones import MixVisionTransformer
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.utils import UserError

# B batch, n positions of the last feature map (h * w, row by row), D channels of one head


@MODELS.register_module()
class AttentionMixVisionTransformer(MixVisionTransformer):
    """The host's MiT that can also give the attention logits of its last stage, from which RML makes affinities.

    `SegFormer <https://arxiv.org/abs/2105.15203>`_. Parameters, their names and ``forward`` are the host's, so any
    MiT or SegFormer checkpoint of the host fits.

    Args:
        attention_blocks (int): From how many of the last stage's blocks, the last ones, to take attention logits.
        kwargs: The host's: ``strides=(4, 2, 2, 1)`` gives output stride 16.

    Raises:
        UserError: If the last stage shrinks its keys (then there is no logit for each pair of positions), has fewer
            blocks, or is not among the outputs.
    """

    def __init__(self, attention_blocks: int = 2, **kwargs) -> None:
        super().__init__(**kwargs)
        ratio, blocks, last = self.sr_ratios[-1], self.num_layers[-1], self.num_stages - 1
        if ratio != 1:
            raise UserError(
                f'`model.backbone.sr_ratios` must end in 1 for attention maps of all positions, but ends in {ratio}.'
            )
        if not 1 <= attention_blocks <= blocks:
            raise UserError(
                f'`model.backbone.attention_blocks` must be 1 to {blocks} (`num_layers` of the last stage), but is '
                f'{attention_blocks}.'
            )
        if last not in self.out_indices:
            raise UserError(
                f'`model.backbone.out_indices` must name the last stage, {last}, whose positions the attention maps '
                f'are about, but is {tuple(self.out_indices)}.'
            )
        self.attention_blocks = attention_blocks

    def forward_with_attention(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features and, from the same pass, attention logits.

        Args:
            x (Tensor): Normalised pictures (B, 3, H, W), float.

        Returns:
            tuple[tuple[Tensor, ...], Tensor]: The outputs of ``forward``, each (B, channels, h, w); and the logits
            q k^T / sqrt(D) before the softmax, (B, blocks * heads, n, n), float32, query before key, the heads of a
            block together.
        """
        blocks = list(self.layers[-1][1])[-self.attention_blocks :]
        inputs = []
        # The pass itself stays the host's; only what enters the blocks is noted.
        with ExitStack() as stack:
            for block in blocks:
                handle = block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
                stack.callback(handle.remove)
            features = self(x)
        return tuple(features), torch.cat([attention_logits(*pair) for pair in zip(blocks, inputs)], dim=1)


def attention_logits(block: nn.Module, x: Tensor) -> Tensor:
    """Attention logits of one block of the host, from its own weights.

    Args:
        block (mmseg.models.backbones.mit.TransformerEncoderLayer): Without spatial reduction.
        x (Tensor): What enters the block, (B, n, channels), float.

    Returns:
        Tensor: (B, heads, n, n), float32; the softmax of a row is what that position attends to.
    """
    attention = block.attn.attn  # nn.MultiheadAttention, whose weight is that of queries, keys and values in this order
    width = attention.embed_dim
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[: 2 * width]
    with torch.autocast(x.device.type, enabled=False):  # sums of products overflow in float16
        both = nn.functional.linear(block.norm1(x.float()), attention.in_proj_weight[: 2 * width], bias)
        # (B, heads, n, D)
        query, key = (part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in both.chunk(2, dim=2))
        return query @ key.transpose(2, 3) / attention.head_dim**0.5
