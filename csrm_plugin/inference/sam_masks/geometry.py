"""Points, crops and boxes: where a Segment Anything model is prompted, and which of its masks are kept.

All sizes and places are in pixels.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

#: Overlap of crops, as a fraction of the shorter side of the picture.
CROP_OVERLAP = 512 / 1500

#: A mask whose box comes this near (pixels) to the border of a crop, but not of the picture, is cut: dropped.
EDGE_DISTANCE = 20

#: Of boxes with a higher IoU the one with the best score is kept.
BOX_IOU = 0.7

#: Stability is the IoU of the mask at logits above +1 and above -1.
STABILITY_OFFSET = 1.0


def point_grid(points_per_side: int) -> np.ndarray:
    """Centres of equal cells of the unit square.

    Args:
        points_per_side (int): n.

    Returns:
        np.ndarray: (n * n, 2), float64, x and y in 0..1, row by row.
    """
    line = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def crop_boxes(height: int, width: int, layers: int) -> list[tuple[int, int, int, int]]:
    """The whole picture, and for each layer i from 1 on 2^i x 2^i overlapping crops.

    Args:
        height (int): Of the picture, in pixels.
        width (int): Of the picture, in pixels.
        layers (int): Number of layers of crops.

    Returns:
        list[tuple[int, int, int, int]]: left, top, right, bottom in pixels; the last two are exclusive.
    """
    boxes = [(0, 0, width, height)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(CROP_OVERLAP * min(height, width) * 2 / count)
        crop_w, crop_h = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        for column, row in itertools.product(range(count), repeat=2):
            left, top = (crop_w - overlap) * column, (crop_h - overlap) * row
            boxes.append((left, top, min(left + crop_w, width), min(top + crop_h, height)))
    return boxes


def is_cut(bbox: Sequence[int], box: Sequence[int], image_size: tuple[int, int]) -> bool:
    """Whether a mask ends near a border of its crop that is no border of the picture.

    Args:
        bbox (Sequence[int]): x, y, width, height of the mask in the picture, in pixels.
        box (Sequence[int]): left, top, right, bottom of the crop.
        image_size (tuple[int, int]): (H, W) of the picture.
    """
    corners = (bbox[0], bbox[1], bbox[0] + bbox[2] - 1, bbox[1] + bbox[3] - 1)
    whole = (0, 0, image_size[1], image_size[0])
    return any(
        abs(corner - side) <= EDGE_DISTANCE < abs(corner - limit) for corner, side, limit in zip(corners, box, whole)
    )


def suppress_boxes(boxes: Any, scores: Any, max_iou: float = BOX_IOU) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes (np.ndarray): (n, 4), left, top, right, bottom.
        scores (np.ndarray): (n,); the best comes first, of equal ones the earlier.
        max_iou (float): A box is dropped if its IoU with one that is kept is higher, 0..1.

    Returns:
        list[int]: Indices of the boxes to keep, best first.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    order, kept = np.argsort(-np.asarray(scores, dtype=np.float64), kind='stable'), []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(int(first))
        low, high = np.maximum(boxes[order, :2], boxes[first, :2]), np.minimum(boxes[order, 2:], boxes[first, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        union = areas[order] + areas[first] - shared
        order = order[shared <= max_iou * union]
    return kept


def suppress_records(records: Sequence[dict], scores: Sequence[float]) -> list[int]:
    """As :func:`suppress_boxes`, for the boxes of masks (``bbox``: left, top, width, height)."""
    # Corners are pixels here, as in the authors' code: a box ends at its last pixel, not after it.
    boxes = [(x, y, x + w - 1, y + h - 1) for x, y, w, h in (record['bbox'] for record in records)]
    return suppress_boxes(boxes, scores)


def stability_scores(logits: Tensor) -> Tensor:
    """How little a mask changes with the cut-off: its area at ``+STABILITY_OFFSET`` by that at the negative.

    Args:
        logits (Tensor): (n, H, W), float.

    Returns:
        Tensor: (n,), float, 0..1; 0 for an empty mask.
    """
    inner = (logits > STABILITY_OFFSET).flatten(1).sum(dim=1)
    outer = (logits > -STABILITY_OFFSET).flatten(1).sum(dim=1)
    return inner / outer.clamp(min=1)
