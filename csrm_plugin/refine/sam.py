"""SEPL: pseudo labels enhanced by the mask proposals of Segment Anything, and the files that hold such masks.

Chen et al. 2023, "Segment Anything Model (SAM) Enhanced Pseudo Labels for Weakly Supervised Semantic Segmentation",
https://arxiv.org/abs/2305.05803.
"""

import json
import os
import os.path as osp
import zipfile
import zlib
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from PIL import Image

from csrm_plugin.utils import IGNORE_INDEX, MissingFileError, UserError, write_json

#: What masks of a picture may be kept in, in the order in which :func:`read_masks` looks; '' is a folder of PNG.
MASK_SUFFIXES = ('.json', '.npz', '')

_REMEDY = 'make it again'


def enhance_labels(
    labels: np.ndarray, masks: np.ndarray, min_mask_overlap: float = 0.5, min_label_coverage: float = 0.85
) -> np.ndarray:
    """Merge class-less masks with a pseudo label by overlap (SEPL, Section 3 of https://arxiv.org/abs/2305.05803).

    A mask is assigned to the one foreground class that has the most pixels in it (of several, the lowest). It is
    selected for that class if more than ``min_mask_overlap`` of the mask carries the class, or if the mask covers at
    least ``min_label_coverage`` of the class's pixels in the picture. Then

    - the pixels of selected masks take their class; where masks of several classes overlap, the smaller mask lies on
      top (of equal ones that of the lower class), so the order of the masks does not matter;
    - pixels that no mask covers, selected or not, keep their label;
    - pixels of a class within masks that were not selected become background;
    - a class none of whose masks was selected keeps all its pixels, even on top of selected masks of other classes:
      otherwise it would vanish from the picture;
    - 255 counts for no class, and stays where no selected mask covers it.

    The authors' released code differs in two points: the lowest class, not that with the largest overlap, takes a
    mask first, and where masks of two classes overlap the higher class index wins.

    Args:
        labels (np.ndarray): (H, W), integer, 0 background, 255 uncertain.
        masks (np.ndarray): (n, H, W), bool; n may be 0, which leaves the labels as they are.
        min_mask_overlap (float): Fraction of the mask's pixels, 0..1.
        min_label_coverage (float): Fraction of the class's pixels in the picture, 0..1.

    Returns:
        np.ndarray: (H, W), uint8.

    Raises:
        UserError: If a threshold is not within 0..1.
        ValueError: If shapes or dtypes are others.

    Example:
        >>> labels = np.array([[0, 3, 3, 0, 3]])
        >>> enhance_labels(labels, np.array([[[1, 1, 1, 0, 0]]], dtype=bool))
        array([[3, 3, 3, 0, 3]], dtype=uint8)
    """
    labels, masks = np.asarray(labels), np.asarray(masks)
    check_overlaps(min_mask_overlap, min_label_coverage)
    _check_arrays(labels, masks)
    enhanced = labels.astype(np.uint8)
    if not len(masks):
        return enhanced
    counts = np.stack([np.bincount(enhanced[mask], minlength=256) for mask in masks])
    areas, in_picture = counts.sum(axis=1), np.bincount(enhanced.ravel(), minlength=256)
    counts[:, [0, IGNORE_INDEX]] = 0
    classes = counts.argmax(axis=1)
    overlaps = counts.max(axis=1)
    # Quotients, not products: 17 / 20 equals 0.85 as floats, while 0.85 * n may round above the integer.
    of_mask, of_class = overlaps / np.maximum(areas, 1), overlaps / np.maximum(in_picture[classes], 1)
    selected = (overlaps > 0) & ((of_mask > min_mask_overlap) | (of_class >= min_label_coverage))
    foreground = np.setdiff1d(np.flatnonzero(in_picture), [0, IGNORE_INDEX])
    kept = np.isin(labels, np.setdiff1d(foreground, classes[selected]))
    foreground_pixels = (enhanced != 0) & (enhanced != IGNORE_INDEX)
    enhanced[foreground_pixels & masks.any(axis=0)] = 0
    for index in np.lexsort((-classes, -areas)):
        if selected[index]:
            enhanced[masks[index]] = classes[index]
    enhanced[kept] = labels[kept]
    return enhanced


def check_overlaps(min_mask_overlap: float, min_label_coverage: float) -> None:
    """Raise ``UserError`` unless both thresholds of :func:`enhance_labels` are fractions."""
    for name, value in (('min_mask_overlap', min_mask_overlap), ('min_label_coverage', min_label_coverage)):
        if not 0 <= value <= 1:
            raise UserError(f'`{name}` must be a fraction from 0 to 1, but is {value}')


def read_masks(folder: str, image_id: str, size: tuple[int, int]) -> np.ndarray:
    """Read the masks of a picture.

    Looked for, in this order, below ``folder``:

    - ``<id>.json``: a list of objects with ``segmentation`` = ``{"size": [h, w], "counts": text or list}`` (run
      lengths of COCO), as the mask generator of Segment Anything writes it with ``--convert-to-rle``, or the same
      below ``annotations`` as in SA-1B; other keys are ignored;
    - ``<id>.npz``: ``masks`` (n, H, W), bool or integer, 0 outside;
    - ``<id>/*.png``: a mask each, 0 outside, as the generator writes them without ``--convert-to-rle``.

    Args:
        folder (str): Folder of masks.
        image_id (str): Id of the picture; may hold sub-folders (``a/b``).
        size (tuple[int, int]): (H, W) of the picture, in pixels.

    Returns:
        np.ndarray: (n, H, W), bool; n is 0 for a picture without masks.

    Raises:
        MissingFileError: If there is none of the three.
        UserError: If the file is truncated, of another form, or its masks have another size; or pycocotools is not
            installed.
    """
    for suffix, read in zip(MASK_SUFFIXES, (_read_json, _read_npz, _read_png_folder)):
        path = osp.join(folder, image_id + suffix)
        if osp.isfile(path) if suffix else osp.isdir(path):
            return read(path, tuple(size))
    raise MissingFileError(
        f'there are no masks of {image_id} in `{folder}`: neither {image_id}.json nor {image_id}.npz nor a folder '
        f'{image_id} of PNG masks; make them with `tools/sam_masks.py`'
    )


def write_masks(path: str, masks: np.ndarray, extra: Sequence[dict] | None = None) -> None:
    """Write masks as the mask generator of Segment Anything does, with compressed run lengths.

    Args:
        path (str): Ends in ``.json``.
        masks (np.ndarray): (n, H, W), bool.
        extra (Sequence[dict], optional): More keys for each of the n masks, such as ``predicted_iou``.

    Raises:
        UserError: If pycocotools is not installed.
    """
    extra = [{}] * len(masks) if extra is None else extra
    if len(extra) != len(masks):
        raise ValueError(f'`extra` must have an entry per mask, but has {len(extra)} for {len(masks)} masks.')
    write_json(path, [mask_record(mask, **keys) for mask, keys in zip(masks, extra)])


def mask_record(mask: np.ndarray, **extra: object) -> dict:
    """One mask as an entry of the JSON file.

    Args:
        mask (np.ndarray): (H, W), bool.
        extra: More keys.

    Returns:
        dict: ``segmentation`` (``size`` [h, w], ``counts`` str), ``area`` (pixels), ``bbox`` ([x, y, width, height],
        pixels) and ``extra``.
    """
    runs = import_coder().encode(np.asfortranarray(mask, dtype=np.uint8))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [0, 0, 0, 0]
    if len(rows):
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    segmentation = dict(size=list(mask.shape), counts=runs['counts'].decode('ascii'))
    return dict(segmentation=segmentation, area=int(mask.sum()), bbox=[int(value) for value in box], **extra)


def read_records(path: str, size: tuple[int, int]) -> list[dict]:
    """Read the JSON file of a picture and check it, without decoding the masks.

    Args:
        path (str): The file.
        size (tuple[int, int]): (H, W) that each mask must have.

    Returns:
        list[dict]: ``size`` and ``counts`` of each mask.

    Raises:
        UserError: If it is truncated, of another form, or a mask has another size.
    """
    try:
        with open(path) as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise UserError(f'`{path}` is no JSON ({error}); it is truncated or another file: {_REMEDY}') from error
    if isinstance(content, dict):
        content = content.get('annotations')
    if not isinstance(content, list):
        raise UserError(f'`{path}` must hold a list of masks, or an object with `annotations`: {_REMEDY}')
    segmentations = [entry.get('segmentation') if isinstance(entry, dict) else None for entry in content]
    for index, segmentation in enumerate(segmentations):
        _check_segmentation(path, index, segmentation, size)
    return segmentations


def import_coder() -> ModuleType:
    """The module ``pycocotools.mask``, or one line on how to get it."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(
            f'masks in JSON need the package pycocotools, which cannot be imported ({error}). Mend: `pip install '
            'pycocotools` (the extra `coco`)'
        ) from error
    return mask


def _check_arrays(labels: np.ndarray, masks: np.ndarray) -> None:
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f'`labels` must be (H, W), integer, but is {labels.shape} {labels.dtype}.')
    if labels.size and not 0 <= labels.min() <= labels.max() <= IGNORE_INDEX:
        raise ValueError(f'`labels` must be from 0 to {IGNORE_INDEX}, but has {labels.min()} to {labels.max()}.')
    if masks.ndim != 3 or masks.dtype != bool or masks.shape[1:] != labels.shape:
        raise ValueError(
            f'`masks` must be (n, {labels.shape[0]}, {labels.shape[1]}), bool, but is {masks.shape} {masks.dtype}.'
        )


def _read_json(path: str, size: tuple[int, int]) -> np.ndarray:
    coder = import_coder()
    masks = np.zeros((0, *size), dtype=bool)
    segmentations = read_records(path, size)
    if not segmentations:
        return masks
    try:
        runs = [coder.frPyObjects(item, *size) if isinstance(item['counts'], list) else item for item in segmentations]
        # (H, W, n) in column-major order: the same bytes are (n, W, H) in row-major order.
        return np.ascontiguousarray(coder.decode(runs).transpose(2, 0, 1)).astype(bool)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f'`{path}` holds run lengths that cannot be decoded ({error}): {_REMEDY}') from error


def _check_segmentation(path: str, index: int, segmentation: object, size: tuple[int, int]) -> None:
    """Raise unless ``segmentation`` holds run lengths that fill a picture of ``size``."""
    if not isinstance(segmentation, dict) or not {'size', 'counts'} <= segmentation.keys():
        raise UserError(
            f'`{path}`: mask {index} has no `segmentation` with `size` and `counts` (run lengths of COCO); Segment '
            'Anything writes them with --convert-to-rle'
        )
    if segmentation['size'] != list(size):
        found = segmentation['size']
        found = f'{found[1]} x {found[0]}' if isinstance(found, list) and len(found) == 2 else repr(found)
        raise UserError(_size_message(f'`{path}`: mask {index}', found, size))
    # pycocotools leaves what too short runs do not reach uninitialised.
    runs = _run_lengths(segmentation['counts'])
    if runs is None or sum(runs) != size[0] * size[1]:
        raise UserError(
            f'`{path}`: the run lengths of mask {index} do not fill {size[1]} x {size[0]} pixels; the file is '
            f'damaged: {_REMEDY}'
        )


def _run_lengths(counts: object) -> list[int] | None:
    """Lengths of the runs as a list, or None if ``counts`` is malformed."""
    if isinstance(counts, list):
        return counts if all(type(count) is int and count >= 0 for count in counts) else None
    if not isinstance(counts, str) or not counts or not counts.isascii():
        return None
    # Six bits a character from '0' on: five of the number, the lowest first, and whether it goes on.
    codes = np.frombuffer(counts.encode('ascii'), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        return None
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends + 1 - starts
    if lengths.max() > 7:
        return None
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    # From the fourth on, each is the difference to the last but one.
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return None if runs.min() < 0 else runs.tolist()


def _read_npz(path: str, size: tuple[int, int]) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as content:
            masks = content['masks']
    except KeyError as error:
        raise UserError(f'`{path}` has no array `masks` (n, H, W): {_REMEDY}') from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'`{path}` cannot be read ({error}); it is truncated or no .npz file: {_REMEDY}') from error
    if masks.ndim != 3 or masks.dtype.kind not in 'bui':
        raise UserError(
            f'`{path}`: `masks` must be (n, H, W), bool or integer, but is {masks.shape} {masks.dtype}: {_REMEDY}'
        )
    if masks.shape[1:] != size:
        raise UserError(_size_message(f'`{path}`: each mask', f'{masks.shape[2]} x {masks.shape[1]}', size))
    return masks.astype(bool)


def _read_png_folder(path: str, size: tuple[int, int]) -> np.ndarray:
    names = sorted(name for name in os.listdir(path) if name.lower().endswith('.png') and not name.startswith('.'))
    masks = np.zeros((len(names), *size), dtype=bool)
    for mask, name in zip(masks, names):
        mask[:] = _read_png(osp.join(path, name), size)
    return masks


def _read_png(path: str, size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            mask = np.array(picture)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        raise UserError(f'`{path}` cannot be read ({error}); it is truncated or no PNG: {_REMEDY}') from error
    if mask.ndim != 2:
        raise UserError(f'`{path}` has {mask.shape[2]} channels, but a mask must have one: 0 outside, 255 inside')
    if mask.shape != size:
        raise UserError(_size_message(f'`{path}`', f'{mask.shape[1]} x {mask.shape[0]}', size))
    return mask != 0


def _size_message(what: str, found: str, size: tuple[int, int]) -> str:
    return (
        f'{what} has {found} pixels (width x height), but the picture has {size[1]} x {size[0]}: the masks belong to '
        'another picture, or to a scaled one'
    )
