"""Reading a folder in VOC layout: split lists, image-level labels, pictures. Plain functions without state.

The layout, all relative to one data root::

    JPEGImages/<id>.jpg
    SegmentationClass/<id>.png              only where masks are evaluated or turned into labels
    ImageSets/Segmentation/<split>.txt      one id per line
    image_labels_<split>.json               or image_labels.json for all splits

A label file is ``{"classes": [names], "labels": {id: [names]}}``; the classes leave out the background.
"""

import json
import os
import os.path as osp
from collections.abc import Iterable, Sequence

import mmengine.fileio as fileio
import numpy as np

from csrm_plugin.utils import IGNORE_INDEX as IGNORE_INDEX  # also under the name that it has had here
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.spelling import nearest

BACKGROUND = 'background'
SPLIT_FOLDER = osp.join('ImageSets', 'Segmentation')


def voc_palette(num_colours: int) -> list[list[int]]:
    """Colours of the PASCAL VOC map: a class keeps its colour however many classes there are.

    Args:
        num_colours (int): How many colours, at most 256.

    Returns:
        list[list[int]]: RGB, 0 to 255. Index 0 is black; index 255, the ignored pixels, is (224, 224, 192).
    """
    if not 0 <= num_colours <= 256:
        raise ValueError(f'`num_colours` must be from 0 to 256, but got {num_colours}.')
    colours = []
    for index in range(num_colours):
        colour = [0, 0, 0]
        # Three bits of the index at a time go to R, G, B, from the highest bit of the colour downwards.
        for shift in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= (index >> channel & 1) << shift
            index >>= 3
        colours.append(colour)
    return colours


def shorten(names: Iterable[str], limit: int = 3) -> str:
    """Join the first names for an error message and say how many more there are."""
    names = list(names)
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(str(name) for name in names[:limit]) + more


def split_name(ann_file: str) -> str:
    """Name of the split that a list stands for: ``ImageSets/Segmentation/train_aug.txt`` gives ``train_aug``."""
    return osp.splitext(osp.basename(ann_file))[0]


def read_split(path: str, backend_args: dict | None = None) -> list[str]:
    """Ids of a split list. Blank lines, spaces at the ends, CRLF and a byte-order mark do no harm.

    Args:
        path (str): Text file with one id per line.
        backend_args (dict, optional): File backend of mmengine.

    Returns:
        list[str]: Ids in the order of the file.

    Raises:
        MissingFileError: The list does not exist; the message names the lists that do.
        UserError: The list is empty or names an id twice.
    """
    if not fileio.exists(path, backend_args=backend_args):
        folder = osp.dirname(path)
        known = sorted(split_name(name) for name in os.listdir(folder)) if osp.isdir(folder) else []
        there = f'the folder has the splits {", ".join(known)}' if known else 'the folder has none or does not exist'
        raise MissingFileError(f'Split list {path} does not exist; {there}. Check `ann_file` and `data_root`.')
    text = fileio.get_text(path, encoding='utf-8-sig', backend_args=backend_args)
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise UserError(f'Split list {path} is empty: write one picture id per line.')
    if len(set(ids)) != len(ids):
        seen = set()
        twice = [name for name in ids if name in seen or seen.add(name)]
        raise UserError(f'Split list {path} names {len(twice)} ids more than once: {shorten(twice)}.')
    return ids


def read_image_labels(path: str, backend_args: dict | None = None) -> tuple[list[str], dict[str, list[str]]]:
    """Read and check a file of image-level labels.

    Args:
        path (str): JSON file ``{"classes": [...], "labels": {id: [names]}}``. A leading ``background`` among the
            classes is dropped.
        backend_args (dict, optional): File backend of mmengine.

    Returns:
        tuple[list[str], dict[str, list[str]]]: Image classes (no background) and the names per id.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file has another form, or a label is none of its classes.
    """
    if not fileio.exists(path, backend_args=backend_args):
        raise MissingFileError(f'Label file {path} does not exist. {prepare_hint(osp.dirname(path))}')
    try:
        content = json.loads(fileio.get_text(path, encoding='utf-8-sig', backend_args=backend_args))
    except ValueError as error:
        raise UserError(f'Label file {path} is not valid JSON: {error}.') from error
    expected = f'Label file {path} must hold {{"classes": [names], "labels": {{id: [names]}}}}'
    if not isinstance(content, dict) or 'classes' not in content or 'labels' not in content:
        found = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise UserError(f'{expected}, but its top level is {found}.')
    classes, labels = content['classes'], content['labels']
    if not _is_name_list(classes) or not isinstance(labels, dict):
        raise UserError(f'{expected}, but "classes" is no list of names or "labels" no mapping.')
    if classes[:1] == [BACKGROUND]:
        classes = classes[1:]
    if len(set(classes)) != len(classes) or not classes or BACKGROUND in classes:
        raise UserError(f'Label file {path}: "classes" must be different names without background, but got {classes}.')
    known = set(classes)
    for image_id, names in labels.items():
        if not _is_name_list(names):
            raise UserError(f'{expected}, but the labels of {image_id} are {names!r}.')
        for name in names:
            if name not in known:
                near = nearest(name, classes)
                guess = f' (nearest: {near})' if near else ''
                raise UserError(f'Label file {path}: image {image_id} has the unknown class {name!r}{guess}.')
    return list(classes), labels


def _is_name_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def find_label_file(
    data_root: str, split: str, label_file: str | None = None, backend_args: dict | None = None
) -> str | None:
    """Choose the label file of a split.

    Args:
        data_root (str): The data root.
        split (str): Name of the split.
        label_file (str, optional): An explicit file, which wins. A relative path is looked up in the data root,
            then in the working directory.
        backend_args (dict, optional): File backend of mmengine.

    Returns:
        str | None: ``label_file``, else ``image_labels_<split>.json``, else ``image_labels.json`` of the data root;
        None where neither exists.

    Raises:
        MissingFileError: ``label_file`` is given but does not exist.
    """
    if label_file is not None:
        candidates = dict.fromkeys([osp.join(data_root, label_file), label_file])
    else:
        candidates = [osp.join(data_root, name) for name in (f'image_labels_{split}.json', 'image_labels.json')]
    for candidate in candidates:
        if fileio.exists(candidate, backend_args=backend_args):
            return candidate
    if label_file is not None:
        raise MissingFileError(f'`label_file` {label_file} does not exist; tried {" and ".join(candidates)}.')
    return None


def prepare_hint(data_root: str, split: str | None = None, source: str = 'masks') -> str:
    """The command that makes the labels, as a sentence for error messages.

    Args:
        data_root (str): The data root.
        split (str, optional): Name of the split.
        source (str): Sub-command of ``prepare_data``, with its own options if it needs some.

    Returns:
        str: A sentence.
    """
    splits = f' --splits {split}' if split else ''
    return (
        f'Make the labels with `python tools/prepare_data.py {source} --root {data_root or "."}{splits}` '
        '(sources: voc-xml, coco-json, masks, csv).'
    )


def list_names(folder: str, suffix: str, backend_args: dict | None = None) -> set[str]:
    """Names of the files in a folder that end in ``suffix``, without it. One listing, no ``stat`` per file.

    Args:
        folder (str): Folder to list; a missing one counts as empty.
        suffix (str): Ending such as ``.jpg``.
        backend_args (dict, optional): File backend of mmengine; local files where None.

    Returns:
        set[str]: Names without the suffix.
    """
    if backend_args is None:
        names = os.listdir(folder) if osp.isdir(folder) else []
    else:
        names = fileio.list_dir_or_file(folder, list_dir=False, backend_args=backend_args)
    return {name[: len(name) - len(suffix)] for name in names if name.endswith(suffix)}


def missing_files(folder: str, ids: Sequence[str], suffix: str, backend_args: dict | None = None) -> list[str]:
    """Ids without a file in ``folder``, in their order. Ids may hold sub-folders (``a/b``).

    Args:
        folder (str): Where ``<id><suffix>`` should be.
        ids (Sequence[str]): Picture ids.
        suffix (str): Ending such as ``.jpg``.
        backend_args (dict, optional): File backend of mmengine.

    Returns:
        list[str]: Ids that have no such file.
    """
    present = {}
    missing = []
    for image_id in ids:
        parent, name = osp.split(image_id)
        if parent not in present:
            present[parent] = list_names(osp.join(folder, parent), suffix, backend_args)
        if name not in present[parent]:
            missing.append(image_id)
    return missing


def multi_hot(names: Iterable[str], classes: Sequence[str]) -> np.ndarray:
    """Labels as a vector.

    Args:
        names (Iterable[str]): Labels of one picture; those that are not in ``classes`` are left out.
        classes (Sequence[str]): The C image classes, without background.

    Returns:
        np.ndarray: (C,) float32 of 0 and 1.
    """
    wanted = set(names)
    return np.array([name in wanted for name in classes], dtype=np.float32)
