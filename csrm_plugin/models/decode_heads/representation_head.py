"""Representation branch: like the segmentation branch, but ending in an embedding."""

from mmseg.models.decode_heads import DepthwiseSeparableASPPHead
from mmseg.registry import MODELS


@MODELS.register_module()
class RepresentationHead(DepthwiseSeparableASPPHead):
    """Branch R of CSRM (VISAPP 2025), Eq. 4: MMSegmentation's DeepLabV3+ head with an embedding in place of classes.

    Args:
        embed_dims (int): Length D of the embedding at each position.
        kwargs: As for :class:`mmseg.models.decode_heads.DepthwiseSeparableASPPHead`, but ``num_classes``.
    """

    def __init__(self, embed_dims: int = 256, **kwargs) -> None:
        # An embedding has no dropped channels: distances would change with them.
        super().__init__(**{'dropout_ratio': 0, **kwargs, 'num_classes': embed_dims})
