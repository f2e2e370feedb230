"""Label maps and class activation maps drawn over a picture. NumPy in, NumPy out.

Legend of shapes: H, W pixels, C image classes, K = C + 1 segmentation classes with the background first.
"""

from collections.abc import Sequence

import numpy as np

from csrm_plugin.utils import IGNORE_INDEX

#: Width of the stripes that stand for 255 (uncertain), in pixels of the picture.
STRIPE = 3
STRIPE_COLOURS = ((96, 96, 96), (176, 176, 176))


def overlay_labels(
    image: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]], opacity: float = 0.65
) -> np.ndarray:
    """Draw a label map over its picture.

    Foreground is tinted in the colour of its class and outlined in white, the background (0) is dimmed, and 255
    (uncertain) is hatched in grey.

    Args:
        image (np.ndarray): (H, W, 3), uint8, RGB.
        labels (np.ndarray): (H, W), integer, 0..K-1, or 255.
        palette (Sequence[Sequence[int]]): K colours, RGB, 0..255.
        opacity (float): Of the tint, in 0..1.

    Returns:
        np.ndarray: (H, W, 3), uint8, RGB.
    """
    image, labels, palette = np.asarray(image), np.asarray(labels), np.asarray(palette, dtype=float)
    _check_size(image, labels.shape)
    uncertain = labels == IGNORE_INDEX
    colours = palette[np.where(uncertain, 0, labels)]
    drawn = _blend(_grey(image), colours, opacity)
    background = labels == 0
    drawn[background] = 0.55 * image[background]
    drawn[uncertain] = _blend(image, _stripes(labels.shape), 0.75)[uncertain]
    drawn[_outline(labels)] = 255
    return drawn.round().astype(np.uint8)


def overlay_cams(image: np.ndarray, probs: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Draw class activation maps over a grey picture: at each position the strongest class, by its strength.

    Args:
        image (np.ndarray): (H, W, 3), uint8, RGB.
        probs (np.ndarray): (C, H, W), float, in 0..1 (Eq. 2); zero for classes that do not count.
        palette (Sequence[Sequence[int]]): K colours, RGB, 0..255, the background's first.

    Returns:
        np.ndarray: (H, W, 3), uint8, RGB.
    """
    image, probs = np.asarray(image), np.asarray(probs)
    _check_size(image, probs.shape[1:])
    colours = np.asarray(palette, dtype=float)[1 + probs.argmax(axis=0)]
    # The palettes are rather dark: they show best on a pale picture.
    return (
        _blend(0.45 * _grey(image) + 130, colours, 0.9 * probs.max(axis=0)[..., None].clip(0, 1))
        .round()
        .astype(np.uint8)
    )


def tile_lines(image: np.ndarray, tiles: int) -> np.ndarray:
    """Mark the borders of the ``tiles`` x ``tiles`` grid that Puzzle-CAM cuts (H, W, 3), uint8, RGB, into."""
    drawn = np.array(image)
    height, width = drawn.shape[:2]
    for index in range(1, tiles):
        row, column = index * height // tiles, index * width // tiles
        drawn[row - 1 : row + 1] = 255
        drawn[:, column - 1 : column + 1] = 255
    return drawn


def _grey(image):
    """The picture (H, W, 3) without colour, float: it leaves the colours to the classes."""
    return np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)


def _blend(below, above, opacity):
    return (1 - opacity) * below + opacity * above


def _stripes(size):
    """Diagonal stripes (H, W, 3), float."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.asarray(STRIPE_COLOURS, dtype=float)[(x + y) // STRIPE % 2]


def _outline(labels):
    """Pixels (H, W), bool, of a foreground region that touch another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[:-1] |= labels[1:] != labels[:-1]
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    return edge & (labels > 0) & (labels != IGNORE_INDEX)


def _check_size(image, size):
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.shape[:2] != tuple(size):
        raise ValueError(
            f'The picture must be (H, W, 3) uint8 of the size {tuple(size)}, but is {image.shape} {image.dtype}.'
        )
