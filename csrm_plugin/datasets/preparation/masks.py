"""Image-level labels from segmentation masks."""

import os.path as osp
from collections.abc import Sequence

import numpy as np

from csrm_plugin.datasets.preparation.common import progress, read_mask
from csrm_plugin.datasets.voc_layout import missing_files
from csrm_plugin.utils import IGNORE_INDEX, MissingFileError, UserError


def labels_from_masks(
    ids: Sequence[str], classes: Sequence[str], folder: str, min_pixels: int = 1, suffix: str = '.png'
) -> dict[str, list[str]]:
    """Name the classes that each mask shows.

    Args:
        ids (Sequence[str]): Picture ids.
        classes (Sequence[str]): The C image classes; pixel value i is the i-th from 1, 0 background, 255 ignored.
        folder (str): Folder with ``<id><suffix>``.
        min_pixels (int): Classes with fewer pixels in a picture are left out.
        suffix (str): Ending of the mask files.

    Returns:
        dict[str, list[str]]: Names per id.

    Raises:
        MissingFileError: A mask is missing.
        UserError: A mask cannot be read or has a value above C other than 255.
    """
    missing = missing_files(folder, ids, suffix)
    if missing:
        raise MissingFileError(
            f'{len(missing)} of {len(ids)} masks are not in {folder}, for example '
            f'{missing[0]}{suffix}. Choose splits that have masks with --splits, or their folder '
            'with --mask-folder.'
        )
    labels = {}
    for image_id in progress(ids, 'masks'):
        path = osp.join(folder, image_id + suffix)
        labels[image_id] = [classes[value - 1] for value in mask_classes(path, len(classes), min_pixels)]
    return labels


def mask_classes(path: str, num_classes: int, min_pixels: int = 1) -> list[int]:
    """Indices of the image classes in a mask.

    Args:
        path (str): Mask file.
        num_classes (int): C, the number of image classes.
        min_pixels (int): Fewest pixels that count.

    Returns:
        list[int]: Ascending, from 1 to C.

    Raises:
        UserError: A value is neither 0 to C nor 255.
    """
    values, counts = np.unique(read_mask(path), return_counts=True)
    wrong = [int(value) for value in values if num_classes < value < IGNORE_INDEX]
    if wrong:
        raise UserError(
            f'Mask {path} has the values {wrong}: with {num_classes} classes they must be 0 to '
            f'{num_classes}, or {IGNORE_INDEX} for ignored pixels.'
        )
    return [int(value) for value, count in zip(values, counts) if 0 < value < IGNORE_INDEX and count >= min_pixels]
