"""What the sources of image-level labels share: class names, splits, writing label files, masks, progress."""

import json
import os
import os.path as osp
import sys
from collections.abc import Iterable, Sequence

import numpy as np
from mmseg.datasets import PascalVOCDataset
from PIL import Image
from rich.console import Console
from rich.progress import track

from csrm_plugin.datasets.named_datasets import COCO_CLASSES, MSRC_CLASSES, VOC_ANIMALS_CLASSES
from csrm_plugin.datasets.synthetic import CLASSES as SYNTHETIC_CLASSES
from csrm_plugin.datasets.voc_layout import (
    BACKGROUND,
    SPLIT_FOLDER,
    list_names,
    read_image_labels,
    read_split,
    split_name,
    voc_palette,
)
from csrm_plugin.utils import MissingFileError, UserError, atomic_write

#: Image classes (no background) by the name of a data set.
PRESETS = dict(
    voc12=PascalVOCDataset.METAINFO['classes'][1:],
    coco14=COCO_CLASSES,
    msrc=MSRC_CLASSES,
    voc_animals=VOC_ANIMALS_CLASSES,
    synthetic=SYNTHETIC_CLASSES,
)


def progress(items: Sequence, description: str) -> Iterable:
    """Iterate with a progress bar on stderr; quiet where stderr is no terminal.

    Args:
        items (Sequence): What to go through.
        description (str): Short text before the bar.

    Returns:
        Iterator: The items.
    """
    console = Console(file=sys.stderr)
    return track(items, description=description, console=console, transient=True, disable=not console.is_terminal)


def resolve_classes(names: Sequence[str] | None) -> list[str] | None:
    """Class names from what a user gives on the command line.

    Args:
        names (Sequence[str] | None): Names; or one name of :data:`PRESETS`; or one file, a text file with a name per
            line or a label file. A leading ``background`` is dropped.

    Returns:
        list[str] | None: Image classes without background; None where ``names`` is None.

    Raises:
        UserError: Names are empty or repeated.
    """
    if names is None:
        return None
    names = list(names)
    if len(names) == 1 and names[0] in PRESETS:
        return list(PRESETS[names[0]])
    if len(names) == 1 and osp.isfile(names[0]):
        if names[0].endswith('.json'):
            return read_image_labels(names[0])[0]
        names = read_split(names[0])
    if names[:1] == [BACKGROUND]:
        names = names[1:]
    if not names or len(set(names)) != len(names) or BACKGROUND in names:
        raise UserError(
            f'Class names must be different and without background, but got {names}. Known sets: {", ".join(PRESETS)}.'
        )
    return names


def list_splits(root: str) -> list[str]:
    """Names of the split lists of a data root.

    Args:
        root (str): Folder in VOC layout.

    Returns:
        list[str]: Names in alphabetical order; empty where there are no lists.

    Raises:
        MissingFileError: The root does not exist.
    """
    if not osp.isdir(root):
        raise MissingFileError(f'Data root {root} does not exist: give the folder that holds JPEGImages with --root.')
    folder = osp.join(root, SPLIT_FOLDER)
    names = os.listdir(folder) if osp.isdir(folder) else []
    return sorted(split_name(name) for name in names if name.endswith('.txt'))


def resolve_splits(root: str, splits: Sequence[str] | None = None, img_suffix: str = '.jpg') -> dict[str, list[str]]:
    """Ids of the splits of a data root.

    Args:
        root (str): Folder in VOC layout.
        splits (Sequence[str], optional): Names of splits. All lists of ``ImageSets/Segmentation`` where None.
        img_suffix (str): Suffix of the pictures, for a folder without lists.

    Returns:
        dict[str, list[str]]: Ids per split; without any list all pictures under the name ''.

    Raises:
        MissingFileError: The root, a list, or all lists and all pictures are missing.
    """
    if splits is None:
        splits = list_splits(root)
    if splits and any(splits):
        return {split: read_split(osp.join(root, SPLIT_FOLDER, f'{split}.txt')) for split in splits}
    ids = sorted(list_names(osp.join(root, 'JPEGImages'), img_suffix))
    if not ids:
        raise MissingFileError(f'{root} has neither lists in {SPLIT_FOLDER} nor *{img_suffix} in JPEGImages.')
    return {'': ids}


def union_of_ids(splits: dict[str, list[str]]) -> list[str]:
    """All ids of several splits, each once, in order.

    Args:
        splits (dict[str, list[str]]): Ids per split.

    Returns:
        list[str]: Ids.
    """
    return list(dict.fromkeys(image_id for ids in splits.values() for image_id in ids))


def write_json(path: str, content: object) -> None:
    """Write JSON with one list item per line (small diffs); never leaves half a file."""
    with atomic_write(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=0, ensure_ascii=False)
        file.write('\n')


def write_labels(path: str, classes: Sequence[str], labels: dict[str, Iterable[str]]) -> None:
    """Write a label file.

    Args:
        path (str): JSON file.
        classes (Sequence[str]): Image classes.
        labels (dict[str, Iterable[str]]): Names per id; written in the order of the classes.
    """
    order = {name: index for index, name in enumerate(classes)}
    labels = {image_id: sorted(set(names), key=order.__getitem__) for image_id, names in labels.items()}
    write_json(path, dict(classes=list(classes), labels=labels))


def label_paths(out: str, splits: Iterable[str]) -> dict[str, str]:
    """Where the labels of each split go.

    Args:
        out (str): A folder for ``image_labels_<split>.json``, or one ``.json`` file for all.
        splits (Iterable[str]): Names of the splits.

    Returns:
        dict[str, str]: Path per split.
    """
    if out.endswith('.json'):
        return dict.fromkeys(splits, out)
    return {split: osp.join(out, f'image_labels_{split}.json' if split else 'image_labels.json') for split in splits}


def refuse_existing(paths: Iterable[str], overwrite: bool) -> None:
    """Raise UserError if a file is there already and may not be overwritten, or if its folder cannot be written."""
    paths = list(paths)
    for path in paths:
        folder = osp.dirname(osp.abspath(path))
        while not osp.isdir(folder):
            folder = osp.dirname(folder)
        if not os.access(folder, os.W_OK):
            raise UserError(f'{folder} cannot be written: name another place with --out.')
    there = [path for path in dict.fromkeys(paths) if osp.exists(path)]
    if there and not overwrite:
        raise UserError(f'{there[0]} exists already: give --overwrite to replace it, or another --out.')


def write_split_labels(
    out: str, splits: dict[str, list[str]], classes: Sequence[str], labels: dict[str, Iterable[str]]
) -> dict[str, str]:
    """Write the label files of several splits.

    Args:
        out (str): See :func:`label_paths`.
        splits (dict[str, list[str]]): Ids per split.
        classes (Sequence[str]): Image classes.
        labels (dict[str, Iterable[str]]): Names per id.

    Returns:
        dict[str, str]: Path per split.
    """
    paths = label_paths(out, splits)
    content = {}
    for split, ids in splits.items():
        content.setdefault(paths[split], {}).update((image_id, labels[image_id]) for image_id in ids)
    for path, part in content.items():
        write_labels(path, classes, part)
    return paths


def read_mask(path: str) -> np.ndarray:
    """Class indices of a mask file.

    Args:
        path (str): Palette or grey PNG with one class index per pixel.

    Returns:
        np.ndarray: (H, W) uint8; 255 is ignored.

    Raises:
        UserError: The file cannot be read, or holds colours or 16 bits in place of indices.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ('P', 'L'):
                raise UserError(
                    f'{path} holds {image.mode} pixels, not class indices: save masks as palette (P) or '
                    'grey (L) PNG with 8 bits.'
                )
            return np.array(image)
    except FileNotFoundError as error:
        raise MissingFileError(f'Mask {path} does not exist.') from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'Mask {path} cannot be read: {error}.') from error


def write_mask(path: str, mask: np.ndarray) -> None:
    """Write a palette PNG with the colours of VOC.

    Args:
        path (str): PNG file; written whole or not at all.
        mask (np.ndarray): (H, W) uint8 class indices, 255 ignored.
    """
    image = Image.fromarray(mask)
    image.putpalette(np.array(voc_palette(256), dtype=np.uint8).tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary)
