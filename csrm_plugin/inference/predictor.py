"""Multi-scale and flip inference in bounded memory: views one after another, tiles where a view does not fit."""

import logging
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from mmengine.runner import autocast
from mmseg.models.segmentors import BaseSegmentor
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor

from csrm_plugin.utils import UserError
from csrm_plugin.utils.devices import is_out_of_memory

#: Tiles overlap by this share of their side; the predictions are averaged there.
TILE_OVERLAP = 0.25
#: Tiles are not halved below this side, in pixels.
MIN_TILE = 128


class Prediction(NamedTuple):
    """What a segmentor makes of one picture of h x w pixels, averaged over the views, on the CPU.

    Attributes:
        cam (Tensor | None): (C, h, w), float32: the CAM before ReLU; None for a model without CAMs.
        probs (Tensor | None): (K, h, w), float32, in 0..1: the segmentation; None for a model without.
        scores (Tensor | None): (C,), float32, in 0..1: what the classifier says.
        tile (int | None): Side of the tiles in pixels, where some view had to be cut.
        propagated (Tensor | None): (C, h, w), float32, in 0..1: propagated CAMs; None for a model without.
    """

    cam: Tensor | None
    probs: Tensor | None
    scores: Tensor | None
    tile: int | None
    propagated: Tensor | None = None


class MultiScalePredictor:
    """Averages the predictions of a segmentor over the scales and flips of a picture.

    As :class:`csrm_plugin.models.segmentors.WSSSTTAModel`: CAMs before Eq. 2, segmentation as probabilities, propagated
    CAMs as they are, all at the picture's original size, but with one view in memory at a time. A view that does not
    fit is cut into tiles.
    Tiles change the result a little, since a network sees less around each pixel; so it is said in the log, and
    :attr:`Prediction.tile` keeps it.

    Args:
        model (BaseSegmentor): In evaluation mode; one of ours (CAMs and perhaps segmentation) or of the host.
        flip (bool): Whether each scale is also seen mirrored.
        tile (int, optional): Cut views with a longer side, in pixels, from the start.
        amp (bool): Half precision on CUDA: faster, and the numbers change slightly.
    """

    def __init__(self, model: BaseSegmentor, flip: bool = False, tile: int | None = None, amp: bool = False) -> None:
        if tile is not None and tile < MIN_TILE:
            raise UserError(f'--tile must be at least {MIN_TILE} pixels, but is {tile}')
        self.model, self.flip, self.tile, self.amp = model, flip, tile, amp
        self.device = next(model.parameters()).device
        self.align_corners = bool(getattr(model, 'align_corners', False))

    @torch.inference_mode()
    def __call__(self, inputs: list[Tensor], size: tuple[int, int]) -> Prediction:
        """Predict one picture.

        Args:
            inputs (list[Tensor]): The picture at each scale, (3, H, W), uint8, BGR as loaded.
            size (tuple[int, int]): Its original height and width in pixels.

        Returns:
            Prediction: Averages over the views.

        Raises:
            UserError: If not even the smallest tiles fit into the memory.
        """
        while True:
            try:
                return self._average(inputs, size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of `except`, where the error no longer holds the tensors that filled the memory.
            self._shrink_tiles(inputs)

    def _shrink_tiles(self, inputs):
        longest = max(max(view.shape[1:]) for view in inputs)
        tile = min(self.tile or longest, longest) // 2
        if tile < MIN_TILE:
            raise UserError(
                f'out of memory even with tiles of {self.tile or longest} pixels: choose smaller --scales, or free '
                'memory'
            )
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()
        self.tile = tile
        print_log(
            f'Out of memory for a picture of up to {longest} pixels: from here on, views with a side above {tile} '
            'pixels are cut into overlapping tiles, which changes their predictions slightly.',
            logger='current',
            level=logging.WARNING,
        )

    def _average(self, inputs, size):
        sums: dict[str, Tensor] = {}
        tile = None
        views = [(view, mirrored) for view in inputs for mirrored in ((False, True) if self.flip else (False,))]
        for view, mirrored in views:
            cut = self.tile is not None and max(view.shape[1:]) > self.tile
            tile = self.tile if cut else tile
            maps = (self._tiled if cut else self._whole)(view.flip(2) if mirrored else view)
            for name, value in maps.items():
                # Where memory is short, sums live in that of the CPU.
                value = value if self.tile is None else value.cpu()
                if name != 'scores':
                    value = resize(
                        (value.flip(2) if mirrored else value)[None],
                        size,
                        mode='bilinear',
                        align_corners=self.align_corners,
                    )[0]
                if name == 'probs':
                    value = value.softmax(dim=0)
                sums[name] = sums[name].add_(value) if name in sums else value.clone()
        averages = {name: (value / len(views)).cpu() for name, value in sums.items()}
        names = ('cam', 'probs', 'scores')
        return Prediction(*(averages.get(name) for name in names), tile, averages.get('propagated'))

    def _whole(self, view) -> dict[str, Tensor]:
        """Maps of one view (3, H, W), as far as there are.

        ``cam`` and ``propagated`` (C, H, W), ``probs`` (K, H, W; still logits), ``scores`` (C,).
        """
        height, width = view.shape[1:]
        meta = dict(ori_shape=(height, width), img_shape=(height, width), pad_shape=(height, width), flip=False)
        batch = dict(inputs=[view], data_samples=[SegDataSample(metainfo=meta)])
        with autocast(device_type=self.device.type, enabled=self.amp and self.device.type == 'cuda'):
            sample = self.model.test_step(batch)[0]
        maps = {}
        if 'cam_logits' in sample:
            maps['cam'] = sample.cam_logits.data.float()
            maps['scores'] = sample.pred_image_labels.scores.float()
        if 'propagated_cam' in sample:
            maps['propagated'] = sample.propagated_cam.data.float()
        if 'seg_logits' in sample:
            maps['probs'] = sample.seg_logits.data.float()
        return maps

    def _tiled(self, view) -> dict[str, Tensor]:
        """As :meth:`_whole`, from overlapping tiles of the view; sums are kept on the CPU."""
        height, width = view.shape[1:]
        sums: dict[str, Tensor] = {}
        count, parts = torch.zeros(height, width), []
        for top in tile_starts(height, self.tile):
            for left in tile_starts(width, self.tile):
                window = (slice(None), slice(top, top + self.tile), slice(left, left + self.tile))
                count[window[1:]] += 1
                maps = {name: value.cpu() for name, value in self._whole(view[window]).items()}
                if 'propagated' in maps:
                    parts.append((window, maps.pop('propagated'), maps['cam'].amax(dim=(1, 2)).relu()))
                for name, value in maps.items():
                    if name != 'scores':
                        sums.setdefault(name, torch.zeros(len(value), height, width))[window] += value
        if parts:
            sums['propagated'] = _merge_propagated(parts, height, width)
        maps = {name: value / count for name, value in sums.items()}
        if 'cam' in maps:
            # As for a whole picture: from the whole map, not from those of the tiles.
            maps['scores'] = self.model.classify(maps['cam'][None])[0].sigmoid()
        return maps


def _merge_propagated(parts, height: int, width: int) -> Tensor:
    """Sum (C, height, width) of the propagated CAMs of tiles, weighted by what the tiles say of each class.

    A tile's map was divided by its own maximum, also that of a class that is not in the tile. Times the highest value
    of the tile's CAM, over that of all tiles, it is on the scale of the whole view.

    Args:
        parts (list[tuple]): Window, propagated CAM (C, h, w) and highest value of the CAM (C,) of each tile.
        height (int): Of the view, in pixels.
        width (int): Of the view, in pixels.
    """
    peaks = torch.stack([peak for _, _, peak in parts])
    weights = peaks / peaks.amax(dim=0).clamp(min=torch.finfo(peaks.dtype).tiny)
    total = torch.zeros(peaks.shape[1], height, width)
    for (window, part, _), weight in zip(parts, weights):
        total[window] += part * weight[:, None, None]
    return total


def tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles of ``tile`` pixels begin along a side of ``length`` pixels, the last one ending at its end.

    Example:
        >>> tile_starts(10, 4)
        [0, 3, 6]
    """
    stride = max(round(tile * (1 - TILE_OVERLAP)), 1)
    last = max(length - tile, 0)
    return [*range(0, last, stride), last]
