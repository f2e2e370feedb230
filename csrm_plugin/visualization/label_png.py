"""Label maps as palette PNG: pixel values are class indices, and viewers show colours."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from csrm_plugin.utils import IGNORE_INDEX, atomic_write

#: What viewers show for 255, as in the masks of PASCAL VOC.
IGNORE_COLOUR = (224, 224, 192)


def save_label_png(path: str | os.PathLike, labels: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """Write a label map, by renaming a finished file.

    Args:
        path (str): Ends in ``.png``.
        labels (np.ndarray): (H, W), integer, 0..K-1, or 255 (uncertain).
        palette (Sequence[Sequence[int]]): K colours, RGB, 0..255.

    Raises:
        ValueError: If a label is out of range.
    """
    labels = np.asarray(labels)
    wrong = labels[((labels < 0) | (labels >= len(palette))) & (labels != IGNORE_INDEX)]
    if labels.ndim != 2 or wrong.size:
        found = f'holds {wrong[0]}' if wrong.size else f'has shape {labels.shape}'
        raise ValueError(f'`labels` must be (H, W) with values from 0 to {len(palette) - 1} or 255, but {found}.')
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(palette)] = palette
    colours[IGNORE_INDEX] = IGNORE_COLOUR
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(colours.tobytes())
    with atomic_write(path) as temporary:
        picture.save(temporary, format='PNG')
