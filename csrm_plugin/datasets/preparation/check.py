"""Checks a folder in VOC layout and says what is wrong and where."""

import dataclasses
import os.path as osp
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from csrm_plugin.datasets.preparation.common import (
    list_splits,
    progress,
    read_mask,
    resolve_splits,
    union_of_ids,
)
from csrm_plugin.datasets.voc_layout import (
    find_label_file,
    missing_files,
    read_image_labels,
    shorten,
)
from csrm_plugin.utils import IGNORE_INDEX, UserError


@dataclasses.dataclass
class Report:
    """What a check found.

    Attributes:
        errors (list[str]): What training or testing would trip over.
        warnings (list[str]): What may be meant so but deserves a look.
        facts (list[str]): Counts.
    """

    errors: list = dataclasses.field(default_factory=list)
    warnings: list = dataclasses.field(default_factory=list)
    facts: list = dataclasses.field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def add(self, kind: str, message: str, places: Sequence[str]) -> None:
        """Note one kind of problem with the places where it is.

        Args:
            kind (str): 'errors' or 'warnings'.
            message (str): What is wrong.
            places (Sequence[str]): Where; nothing is noted if empty.
        """
        if places:
            getattr(self, kind).append(f'{message}: {len(places)}, for example {shorten(places)}')

    def __str__(self) -> str:
        lines = [*self.facts]
        lines += [f'warning: {text}' for text in self.warnings]
        lines += [f'error: {text}' for text in self.errors]
        lines.append(
            f'{len(self.errors)} errors, {len(self.warnings)} warnings'
            if self.errors or self.warnings
            else 'everything is in order'
        )
        return '\n'.join(lines)


def check_data(
    root: str,
    splits: Sequence[str] | None = None,
    label_file: str | None = None,
    label_files: dict[str, str] | None = None,
    classes: Sequence[str] | None = None,
    img_suffix: str = '.jpg',
    mask_folder: str = 'SegmentationClass',
    decode: bool = True,
) -> Report:
    """Check pictures, masks, labels and lists against each other.

    Masks are looked at because scores need them; that labels and masks disagree is a warning, for weak labels may.

    Args:
        root (str): Folder in VOC layout.
        splits (Sequence[str], optional): Names of splits; all lists that are there where None.
        label_file (str, optional): Label file of all splits, in place of the ones in the root.
        label_files (dict[str, str], optional): Label file per split; goes before ``label_file``.
        classes (Sequence[str], optional): Image classes that the label files must have.
        img_suffix (str): Ending of the pictures.
        mask_folder (str): Folder of the masks in the root.
        decode (bool): Read every picture and mask to the end. Without it only names and labels are checked.

    Returns:
        Report: What was found.

    Raises:
        MissingFileError: The root or all of its lists are missing.
    """
    report = Report()
    ids_of = _read_lists(report, root, splits, img_suffix)
    ids = union_of_ids(ids_of)
    pictures = _Files(osp.join(root, 'JPEGImages'), img_suffix, ids)
    masks = _Files(osp.join(root, mask_folder), '.png', ids)
    report.add('errors', f'pictures of the lists missing in {pictures.folder}', pictures.missing_of(ids))
    labels = {}
    for split, split_ids in ids_of.items():
        has_masks = not masks.missing.issuperset(split_ids)
        path = (label_files or {}).get(split) or _find(root, split, label_file, report)
        classes, labels[split] = _check_labels(report, split, split_ids, path, classes, has_masks)
        if has_masks:
            report.add('errors', f'masks of split {split!r} missing in {masks.folder}', masks.missing_of(split_ids))
        report.facts.append(_describe(split, split_ids, labels[split], classes, has_masks))
    _check_overlap(report, ids_of)
    if decode:
        shown = _check_files(report, ids, pictures, masks, classes)
        for split, names_of in labels.items():
            _compare(report, split, names_of, shown, classes)
    return report


class _Files:
    """The files of one kind: their folder, their ending and the ids that have none."""

    def __init__(self, folder: str, suffix: str, ids: Sequence[str]) -> None:
        self.folder, self.suffix = folder, suffix
        self.missing = set(missing_files(folder, ids, suffix))

    def path(self, image_id: str) -> str:
        return osp.join(self.folder, image_id + self.suffix)

    def missing_of(self, ids: Sequence[str]) -> list[str]:
        return [image_id + self.suffix for image_id in ids if image_id in self.missing]


def _read_lists(report: Report, root: str, splits: Sequence[str] | None, img_suffix: str) -> dict[str, list[str]]:
    """Ids per split, list by list, so that one bad list does not hide what is wrong with the others."""
    ids_of = {}
    for split in splits or list_splits(root) or ['']:
        try:
            ids_of.update(resolve_splits(root, [split], img_suffix))
        except UserError as error:
            report.errors.append(str(error))
    return ids_of


def _find(root: str, split: str, label_file: str | None, report: Report) -> str | None:
    try:
        return find_label_file(root, split, label_file)
    except UserError as error:
        report.errors.append(str(error))
        return None


def _check_labels(
    report: Report, split: str, ids: Sequence[str], path: str | None, classes: Sequence[str] | None, has_masks: bool
) -> tuple[list[str] | None, dict[str, list[str]]]:
    """Check the label file of a split; give its classes and the names per id that it has."""
    if path is None:
        message = f'split {split!r} has no label file image_labels_{split}.json or image_labels.json'
        if has_masks or split.startswith('train'):
            report.errors.append(message)
        else:
            report.facts.append(f'{message}, nor masks: it can only be predicted')
        return classes, {}
    try:
        file_classes, labels = read_image_labels(path)
    except UserError as error:
        report.errors.append(str(error))
        return classes, {}
    if classes is not None and list(classes) != file_classes:
        difference = sorted(set(classes) ^ set(file_classes))
        what = f'they differ in {shorten(difference)}' if difference else 'their order differs'
        report.errors.append(f'the classes of {path} are not those expected: {what}')
    missing = [image_id for image_id in ids if image_id not in labels]
    if len(missing) == len(ids) and not has_masks and not split.startswith('train'):
        report.facts.append(f'split {split!r} has neither labels in {path} nor masks: it can only be predicted')
        return file_classes, {}
    report.add('errors', f'ids of split {split!r} without an entry in {path}', missing)
    found = {image_id: set(labels[image_id]) for image_id in ids if image_id in labels}
    report.add(
        'warnings',
        f'pictures of split {split!r} without any class in {path}',
        [image_id for image_id, names in found.items() if not names],
    )
    seen = set().union(*found.values()) if found else set()
    report.add(
        'warnings',
        f'classes that no picture of split {split!r} has',
        [name for name in file_classes if name not in seen],
    )
    return file_classes, found


def _describe(
    split: str, ids: Sequence[str], labels: dict[str, list[str]], classes: Sequence[str] | None, has_masks: bool
) -> str:
    """Counts of one split in one line."""
    parts = [f'split {split!r}: {len(ids)} pictures', 'with masks' if has_masks else 'without masks']
    if labels:
        count = Counter(name for names in labels.values() for name in names)
        parts.append(f'{sum(count.values()) / len(labels):.2f} classes per picture')
        parts.append('pictures per class: ' + ', '.join(f'{name} {count[name]}' for name in classes if count[name]))
    return '; '.join(parts)


def _check_overlap(report: Report, ids_of: dict[str, list[str]]) -> None:
    """Pictures that are both trained on and scored."""
    for first, first_ids in ids_of.items():
        for second, second_ids in ids_of.items():
            trained = first.startswith('train') and first != 'trainval'
            scored = second.startswith(('val', 'test'))
            if trained and scored:
                both = set(second_ids)
                report.add(
                    'errors',
                    f'pictures in both split {first!r} and split {second!r}',
                    [image_id for image_id in first_ids if image_id in both],
                )


def _check_files(
    report: Report, ids: Sequence[str], pictures: _Files, masks: _Files, classes: Sequence[str] | None
) -> dict[str, set[int]]:
    """Read every picture and mask; give the classes (indices from 1) that each sound mask shows."""
    broken, bad_masks, bad_values, bad_sizes = [], [], [], []
    shown = {}
    for image_id in progress(ids, 'reading files'):
        size = None
        if image_id not in pictures.missing:
            try:
                size = _decode_picture(pictures.path(image_id))
            except (OSError, SyntaxError, ValueError) as error:
                broken.append(f'{pictures.path(image_id)} ({error})')
        if image_id in masks.missing:
            continue
        path = masks.path(image_id)
        try:
            mask = read_mask(path)
        except UserError as error:
            bad_masks.append(str(error))
            continue
        if size is not None and mask.shape != size[::-1]:
            bad_sizes.append(f'{path} ({mask.shape[1]}x{mask.shape[0]}, picture {size[0]}x{size[1]})')
        values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
        wrong = [value for value in values if classes is not None and len(classes) < value < IGNORE_INDEX]
        if wrong:
            bad_values.append(f'{path} (values {wrong})')
        else:
            shown[image_id] = {value for value in values if 0 < value < IGNORE_INDEX}
    report.add('errors', 'pictures that cannot be read to the end', broken)
    report.add('errors', 'masks that cannot be used', bad_masks)
    limit = f'0 to {len(classes)} or {IGNORE_INDEX}' if classes is not None else ''
    report.add('errors', f'masks with values other than {limit}', bad_values)
    report.add('errors', 'masks of another size than their picture', bad_sizes)
    return shown


def _decode_picture(path: str) -> tuple[int, int]:
    """Read a picture to its last byte and give width and height."""
    with Image.open(path) as image:
        image.load()
        return image.size


def _compare(
    report: Report, split: str, labels: dict[str, list[str]], shown: dict[str, set[int]], classes: Sequence[str] | None
) -> None:
    """Labels against what the masks show: pictures where one names a class that the other lacks."""
    if not labels or classes is None:
        return
    lacking, surplus = [], []
    for image_id, names in labels.items():
        if image_id not in shown:
            continue
        in_mask = {classes[value - 1] for value in shown[image_id]}
        if in_mask - names:
            lacking.append(f'{image_id} (label lacks {", ".join(sorted(in_mask - names))})')
        if names - in_mask:
            surplus.append(f'{image_id} (mask lacks {", ".join(sorted(names - in_mask))})')
    report.add(
        'warnings', f'pictures of split {split!r} whose mask shows classes that the label does not name', lacking
    )
    report.add(
        'warnings', f'pictures of split {split!r} whose label names classes that the mask does not show', surplus
    )
