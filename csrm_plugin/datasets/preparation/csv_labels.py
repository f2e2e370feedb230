"""Image-level labels from a CSV file."""

import csv
import os.path as osp
from collections.abc import Sequence

from csrm_plugin.datasets.voc_layout import BACKGROUND
from csrm_plugin.utils import MissingFileError, UserError

#: Cells that a table of zeros and ones may hold.
_YES, _NO = ('1', '1.0', 'true', 'yes'), ('0', '0.0', 'false', 'no', '')


def labels_from_csv(
    path: str, classes: Sequence[str] | None = None, separator: str = ';'
) -> tuple[list[str], dict[str, list[str]]]:
    """Read a table of labels.

    The first column is the id (a picture name with or without folder and suffix). Either the second and last column
    is called ``labels`` and holds names joined by ``separator``, or there is a column of 0 and 1 for each class.

    Args:
        path (str): CSV file with a header line.
        classes (Sequence[str], optional): Image classes. Default: the columns of the table, or the names in the
            column ``labels`` in alphabetical order.
        separator (str): Between the names of a cell.

    Returns:
        tuple[list[str], dict[str, list[str]]]: Classes, and names per id.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The header, a row, a cell or a name is not as described; the message names the line.
    """
    if not osp.isfile(path):
        raise MissingFileError(f'CSV file {path} does not exist.')
    with open(path, newline='', encoding='utf-8-sig') as file:
        reader = csv.reader(file)
        header = [cell.strip() for cell in next(reader, [])]
        rows = [
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)
        ]
    if len(header) < 2 or not rows:
        raise UserError(f'{path} needs a header line `id,labels` or `id,<class>,<class>,...` and at least one row.')
    as_names = len(header) == 2 and header[1].lower() == 'labels'
    labels = {}
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f'{path}, line {line}: {len(row)} cells, but the header has {len(header)}.')
        image_id = osp.splitext(osp.basename(row[0]))[0] if _has_suffix(row[0]) else osp.basename(row[0])
        if not image_id or image_id in labels:
            raise UserError(f'{path}, line {line}: the id {row[0]!r} is empty or there twice.')
        labels[image_id] = _names_of(row[1], separator) if as_names else _names_of_row(path, line, header, row)
    if classes is None:
        classes = sorted({name for names in labels.values() for name in names}) if as_names else header[1:]
    _check_names(path, classes, labels)
    return list(classes), labels


def _has_suffix(name: str) -> bool:
    return name.lower().endswith(('.jpg', '.jpeg', '.png', '.bmp'))


def _names_of(cell: str, separator: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in cell.split(separator) if name.strip()))


def _names_of_row(path: str, line: int, header: list[str], row: list[str]) -> list[str]:
    """Names of the columns that say yes."""
    names = []
    for name, cell in zip(header[1:], row[1:]):
        if cell.lower() in _YES:
            names.append(name)
        elif cell.lower() not in _NO:
            raise UserError(f'{path}, line {line}, column {name}: {cell!r} is neither 0 nor 1.')
    return names


def _check_names(path: str, classes: Sequence[str], labels: dict[str, list[str]]) -> None:
    """Raise UserError for bad class names or a label outside of them."""
    if len(set(classes)) != len(classes) or BACKGROUND in classes or not all(classes):
        raise UserError(f'{path}: class names must be different, not empty and without background: {list(classes)}.')
    for image_id, names in labels.items():
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise UserError(f'{path}: image {image_id} has the unknown class {unknown[0]!r}.')
