"""The network of CSRM: one backbone, three branches."""

from typing import NamedTuple

from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor


class CSRMOutputs(NamedTuple):
    """Outputs of the branches.

    Attributes:
        cam (Tensor): (B, C, h, w), float: class activation maps before ReLU.
        seg (Tensor): (B, K, h', w'), float: segmentation logits at the decoder's resolution.
        rep (Tensor | None): (B, D, h', w'), float: representations, where asked for.
    """

    cam: Tensor
    seg: Tensor
    rep: Tensor | None


@MODELS.register_module()
class CSRMNetwork(EncoderDecoder):
    """MMSegmentation's encoder-decoder with a CAM head and a representation head: Section 3.1 of CSRM (VISAPP 2025).

    Without the two heads its names are those of a plain ``EncoderDecoder``.

    Args:
        cam_head (dict): Config of the classification branch.
        representation_head (dict): Config of the representation branch.
        kwargs: As for :class:`mmseg.models.segmentors.EncoderDecoder`.
    """

    def __init__(self, cam_head: dict, representation_head: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cam_head = MODELS.build(cam_head)
        self.representation_head = MODELS.build(representation_head)

    def branches(self, inputs: Tensor, represent: bool = True) -> CSRMOutputs:
        """All branches for normalised pictures (B, 3, H, W); ``represent=False`` leaves out the representation."""
        features = self.extract_feat(inputs)
        rep = self.representation_head(features) if represent else None
        return CSRMOutputs(self.cam_head(features), self.decode_head(features), rep)

    def upscale(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize maps (B, X, h, w) to ``size`` (H, W), bilinearly, as the decode head's ``align_corners`` says."""
        return resize(maps.float(), tuple(size), mode='bilinear', align_corners=self.align_corners)
