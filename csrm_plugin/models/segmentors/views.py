"""What a model makes of a training batch, for drawing."""

from typing import NamedTuple

from torch import Tensor


class MixedView(NamedTuple):
    """What a model learns from where it mixes the pictures of a batch.

    Attributes:
        inputs (Tensor): (B, 3, H, W), float: normalised pictures.
        labels (Tensor): (B, C), 0/1: the image-level labels after mixing.
        pseudo_labels (Tensor): (B, h, w), int64, 255 uncertain.
    """

    inputs: Tensor
    labels: Tensor
    pseudo_labels: Tensor


class TrainingView(NamedTuple):
    """What a model makes of a training batch; see :meth:`WSSSSegmentor.training_view`.

    Attributes:
        cam (Tensor): (B, C, h', w'), float: CAM before ReLU, or after it.
        whose (str): What the CAM is, for a caption, as in ``"teacher's CAM"``.
        pseudo_labels (Tensor | None): (B, h, w), int64, 255 uncertain: made from CAMs; None where there are none.
        how (str): How they are made, in a few words, for a caption.
        mixed (MixedView | None): Where the model mixes pictures.
        tiles (int | None): Into how many tiles per side the model cuts pictures.
    """

    cam: Tensor
    whose: str = 'CAM'
    pseudo_labels: Tensor | None = None
    how: str = ''
    mixed: MixedView | None = None
    tiles: int | None = None
