"""Folders of label maps: one palette PNG per picture, and ``labels.json`` that says what they stand on."""

import json
import os
import os.path as osp
from collections.abc import Sequence

import numpy as np
from PIL import Image

from csrm_plugin.datasets import voc_layout
from csrm_plugin.utils import IGNORE_INDEX, MissingFileError, UserError, write_json

#: Beside the label maps: ``classes``, ``palette``, ``settings`` (what makes two folders comparable) and more.
MANIFEST = 'labels.json'


def read_label_png(path: str, num_classes: int | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a label map and check it.

    Args:
        path (str): A PNG whose pixel values are class indices (mode ``P`` or ``L``).
        num_classes (int, optional): K; values must be below it, or 255.
        size (tuple[int, int], optional): (H, W) that it must have.

    Returns:
        np.ndarray: (H, W), uint8, 0..K-1, 255 uncertain or ignored.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it is truncated, no label map, of another size, or holds a class that does not exist.
    """
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            labels = np.array(picture)
    except FileNotFoundError as error:
        raise MissingFileError(f'label map `{path}` does not exist') from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        raise UserError(
            f'label map `{path}` cannot be read ({error}); it is truncated or no PNG: make it again'
        ) from error
    if mode not in ('P', 'L', 'I', 'I;16', '1') or labels.ndim != 2:
        raise UserError(
            f'label map `{path}` has the mode {mode}, but its pixels must be class indices (mode P or L); pictures of '
            'colours are turned into indices by `tools/prepare_data.py`'
        )
    if size is not None and labels.shape != tuple(size):
        raise UserError(
            f'label map `{path}` has {labels.shape[1]} x {labels.shape[0]} pixels (width x height), but '
            f'{size[1]} x {size[0]} are expected: it belongs to another picture, or was scaled'
        )
    if labels.dtype != np.uint8 and (labels.min(initial=0) < 0 or labels.max(initial=0) > IGNORE_INDEX):
        raise UserError(f'label map `{path}` holds {labels.max()}, but class indices end at {IGNORE_INDEX}')
    labels = labels.astype(np.uint8)
    if num_classes is not None:
        wrong = labels[(labels >= num_classes) & (labels != IGNORE_INDEX)]
        if wrong.size:
            raise UserError(
                f'label map `{path}` holds class {wrong[0]}, but there are classes 0 to {num_classes - 1} (and '
                f'{IGNORE_INDEX}): it belongs to another data set, or the classes given are not its'
            )
    return labels


def require_files(folder: str, ids: Sequence[str], what: str, suffix: str = '.png', hint: str = '') -> None:
    """Raise ``MissingFileError`` unless each id has a file ``<id><suffix>`` in ``folder``.

    Args:
        folder (str): Where they should be.
        ids (Sequence[str]): Ids of pictures.
        what (str): What the files are, in the plural, for the message.
        suffix (str): Ending of the files.
        hint (str): A sentence on how to make them.
    """
    if not osp.isdir(folder):
        raise MissingFileError(f'folder `{folder}` does not exist; it should hold the {what}. {hint}'.strip())
    missing = voc_layout.missing_files(folder, ids, suffix)
    if missing:
        raise MissingFileError(
            f'{len(missing)} of {len(ids)} {what} are not in `{folder}`: '
            f'{voc_layout.shorten(name + suffix for name in missing)}. {hint}'.strip()
        )


def read_manifest(folder: str) -> dict | None:
    """What ``labels.json`` of a folder holds; None where there is none.

    Raises:
        UserError: If it is no JSON object.
    """
    path = osp.join(folder, MANIFEST)
    if not osp.isfile(path):
        return None
    try:
        with open(path) as file:
            content = json.load(file)
    except ValueError as error:
        raise UserError(f'`{path}` is no JSON: {error}; remove the folder and make it again') from error
    if not isinstance(content, dict):
        raise UserError(f'`{path}` must hold a JSON object; remove the folder and make it again')
    return content


def claim_folder(folder: str, content: dict) -> None:
    """Write ``labels.json``, or make sure that what is in the folder was made with the same settings.

    So several shards may fill one folder, a second run may skip what is there, and labels of two settings never end
    up side by side.

    Args:
        folder (str): Made if it is not there.
        content (dict): With ``settings`` (dict): what decides on the pixels.

    Raises:
        UserError: If the folder holds files made with other settings (names the first that differs), or PNG files of
            unknown origin, such as masks or pictures.
    """
    found = read_manifest(folder)
    if found is None:
        if osp.isdir(folder) and any(name.endswith('.png') for name in os.listdir(folder)):
            raise UserError(
                f'--out: `{folder}` holds PNG files, but no {MANIFEST} that says where they come from; they are left '
                'alone. Give another --out.'
            )
        write_json(osp.join(folder, MANIFEST), content)
        return
    # Through JSON, for tuples become lists there.
    old, new = found.get('settings', {}), json.loads(json.dumps(content['settings']))
    differing = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if differing:
        key = differing[0]
        raise UserError(
            f'--out: `{folder}` holds results made with other settings ({key}: {old.get(key)!r} there, '
            f'{new.get(key)!r} now). Give another --out, or remove that folder.'
        )
