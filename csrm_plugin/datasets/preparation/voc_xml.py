"""Image-level labels from VOC annotation files."""

import os.path as osp
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from csrm_plugin.datasets.preparation.common import progress
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.spelling import nearest


def labels_from_voc_xml(
    ids: Sequence[str], classes: Sequence[str], folder: str, skip_difficult: bool = False
) -> dict[str, set[str]]:
    """Read the classes of the objects that VOC XML files name.

    Objects marked difficult count by default, as in the label files that most published methods share; leaving them
    out loses a class where all its objects are difficult.

    Args:
        ids (Sequence[str]): Picture ids.
        classes (Sequence[str]): Image classes.
        folder (str): Folder ``Annotations`` with ``<id>.xml``.
        skip_difficult (bool): Leave out objects with ``<difficult>1</difficult>``.

    Returns:
        dict[str, set[str]]: Names per id.

    Raises:
        MissingFileError: A file is missing.
        UserError: A file is no valid XML or names an unknown class.
    """
    missing = [image_id for image_id in ids if not osp.isfile(osp.join(folder, f'{image_id}.xml'))]
    if missing:
        raise MissingFileError(
            f'{len(missing)} of {len(ids)} annotations are not in {folder}, for example '
            f'{missing[0]}.xml. Choose splits that have annotations with --splits.'
        )
    return {
        image_id: _read_xml(osp.join(folder, f'{image_id}.xml'), classes, skip_difficult)
        for image_id in progress(ids, 'XML')
    }


def _read_xml(path: str, classes: Sequence[str], skip_difficult: bool) -> set[str]:
    """Class names of one file."""
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise UserError(f'{path} is no valid XML: {error}.') from error
    names = set()
    for element in tree.iterfind('object'):
        if skip_difficult and (element.findtext('difficult') or '').strip() == '1':
            continue
        name = (element.findtext('name') or '').strip()
        if name not in classes:
            near = nearest(name, classes)
            guess = f' (nearest: {near})' if near else ''
            raise UserError(f'{path} names the unknown class {name!r}{guess}; --classes sets the class names.')
        names.add(name)
    return names
