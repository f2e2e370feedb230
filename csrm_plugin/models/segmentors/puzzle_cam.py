"""Stage 0 with Puzzle-CAM."""

import torch.nn.functional as F
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from csrm_plugin.models.segmentors.cam_classifier import CAMClassifier
from csrm_plugin.models.segmentors.views import TrainingView
from csrm_plugin.utils import UserError


def split_tiles(pictures: Tensor, tiles: int) -> Tensor:
    """Cut (B, X, H, W) into a grid of ``tiles`` x ``tiles``: (B * tiles^2, X, H / tiles, W / tiles), row by row."""
    batch, channels, height, width = pictures.shape
    if height % tiles or width % tiles:
        raise UserError(f'{height} x {width} pixels cannot be cut into {tiles} x {tiles} equal tiles.')
    grid = pictures.reshape(batch, channels, tiles, height // tiles, tiles, width // tiles)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // tiles, width // tiles)


def merge_tiles(maps: Tensor, tiles: int) -> Tensor:
    """Put the tiles' maps together again: the inverse of :func:`split_tiles`."""
    count, channels, height, width = maps.shape
    grid = maps.reshape(count // tiles**2, tiles, tiles, channels, height, width)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, tiles * height, tiles * width)


@MODELS.register_module()
class PuzzleCAM(CAMClassifier):
    """CAM classifier that matches the CAM of the whole picture with the merged CAMs of its tiles.

    Jo and Yu, "Puzzle-CAM: improved localization via matching partial and full features" (ICIP 2021): classification
    loss on the whole picture and on the merged map, and the L1 distance of both maps on the picture's own classes.

    Args:
        tiles (int): Tiles per side (paper: 2, so 4 tiles).
        loss_re_weight (float): Largest weight alpha of the reconstruction loss (paper: 4). A
            :class:`csrm_plugin.engine.hooks.ScheduleHook` on ``reconstruction_weight`` ramps it up.
        kwargs: As for :class:`CAMClassifier`.

    Attributes:
        reconstruction_weight (float): The weight in force; set by the hook.
    """

    def __init__(self, *args, tiles: int = 2, loss_re_weight: float = 4.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if tiles < 1:
            raise UserError(f'`model.tiles` must be at least 1, but is {tiles}.')
        self.tiles = tiles
        self.reconstruction_weight = loss_re_weight

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict:
        """``loss_c`` of the whole pictures, ``loss_c_tiles`` of the merged maps, ``loss_re`` between the two."""
        labels, size = self.image_labels(data_samples, inputs.device), inputs.shape[2:]
        whole = self._forward(inputs)
        merged = merge_tiles(self._forward(split_tiles(inputs, self.tiles)), self.tiles)
        positions, merged_positions = (self.picture_positions(cam, data_samples, size) for cam in (whole, merged))
        losses = dict(
            loss_c=self.loss_c(self.classify(whole, positions), labels),
            loss_c_tiles=self.loss_c(self.classify(merged, merged_positions), labels),
        )
        if merged.shape != whole.shape:  # tiles whose size is no multiple of the stride
            merged = F.interpolate(merged, whole.shape[2:], mode='bilinear', align_corners=self.align_corners)
        distance = (whole.float() - merged.float()).abs() * labels[:, :, None, None]
        if positions is not None:
            # Of this process alone, like the mean without padding: others may have none and would not take part.
            distance = distance.movedim(1, -1)[positions]
        losses['loss_re'] = self.reconstruction_weight * distance.mean()
        return losses

    def training_view(self, inputs: Tensor, data_samples: list[SegDataSample]) -> TrainingView:
        """The CAM of a batch, and the tiles; see :meth:`WSSSSegmentor.training_view`."""
        return super().training_view(inputs, data_samples)._replace(tiles=self.tiles)
