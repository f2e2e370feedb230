"""Names of the classes, from wherever they are known."""

import json
import os.path as osp
from collections.abc import Sequence

import numpy as np

from csrm_plugin.datasets import (
    COCO14WSSSDataset,
    MSRCDataset,
    SyntheticWSSSDataset,
    VOC12WSSSDataset,
    VOCAnimalsDataset,
    label_folder,
    voc_layout,
)
from csrm_plugin.inference.evaluate_labels.counting import Counts
from csrm_plugin.utils import IGNORE_INDEX, MissingFileError, UserError

#: Names for ``classes``; those of `tools/prepare_data.py` are understood as well.
KNOWN_CLASSES = {
    'voc': VOC12WSSSDataset.METAINFO['classes'],
    'coco': COCO14WSSSDataset.METAINFO['classes'],
    'msrc': MSRCDataset.METAINFO['classes'],
    'voc_animals': VOCAnimalsDataset.METAINFO['classes'],
    'demo': SyntheticWSSSDataset.METAINFO['classes'],
}

_ALIASES = {'voc12': 'voc', 'coco14': 'coco', 'synthetic': 'demo'}


def find_classes(
    classes: str | Sequence[str] | None, manifest: dict, pred_dir: str, gt_dir: str, split_file: str
) -> tuple[tuple[str, ...] | None, str]:
    """The K names and where they are from; (None, text) where nothing names them."""
    if classes is not None and not isinstance(classes, str):
        return _check_names(list(classes), '`classes`'), 'given'
    if classes is not None:
        name = _ALIASES.get(classes, classes)
        if name in KNOWN_CLASSES:
            return tuple(KNOWN_CLASSES[name]), f'--classes {classes}'
        if not osp.isfile(classes):
            raise MissingFileError(
                f'--classes: `{classes}` is neither one of {", ".join(KNOWN_CLASSES)} nor a JSON file with "classes"'
            )
        return _check_names(_read_classes(classes), f'--classes {classes}'), f'--classes {classes}'
    if 'classes' in manifest:
        path = osp.join(pred_dir, label_folder.MANIFEST)
        return _check_names(manifest['classes'], f'`{path}`', manifest.get('palette')), path
    root = osp.dirname(osp.abspath(gt_dir))
    path = voc_layout.find_label_file(root, voc_layout.split_name(str(split_file)))
    if path is not None:
        return _check_names(_read_classes(path), f'`{path}`'), path
    return None, 'numbered up to the highest value found'


def _read_classes(path):
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except ValueError as error:
        raise UserError(f'`{path}` is no JSON: {error}; it should hold {{"classes": [names]}}') from error
    if not isinstance(content, dict) or 'classes' not in content:
        raise UserError(f'`{path}` should hold {{"classes": [names]}}, but has no "classes"')
    return content['classes']


def _check_names(names, where, palette=None):
    """The names with the background first, which label files leave out."""
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f'{where}: "classes" must be a list of names, but is {names!r}')
    # With a colour for each name the background is among them, whatever it is called.
    complete = isinstance(palette, list) and len(palette) == len(names)
    if names[0] != voc_layout.BACKGROUND and not complete:
        names = [voc_layout.BACKGROUND, *names]
    if len(set(names)) != len(names) or len(names) > IGNORE_INDEX:
        raise UserError(f'{where}: "classes" must be at most 255 different names, the background among them')
    return tuple(names)


def numbered(counts: Counts) -> tuple[str, ...]:
    """Names of the classes up to the highest value seen."""
    seen = counts.labels[:, :IGNORE_INDEX].any(axis=0) | counts.labels[:IGNORE_INDEX].any(axis=1)
    highest = max(int(np.flatnonzero(seen).max(initial=0)), counts.curve.shape[1] - 1)
    return (voc_layout.BACKGROUND, *(f'class_{index}' for index in range(1, highest + 1)))
