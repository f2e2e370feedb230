"""SEPL over a folder: label maps and masks in, enhanced label maps out."""

import json
import os.path as osp
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from csrm_plugin.datasets import voc_layout
from csrm_plugin.datasets.label_folder import (
    MANIFEST,
    claim_folder,
    read_label_png,
    read_manifest,
    require_files,
)
from csrm_plugin.inference.finished import find_damaged, present_files
from csrm_plugin.refine.sam import MASK_SUFFIXES, check_overlaps, enhance_labels, import_coder, read_masks
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.processes import run_unordered
from csrm_plugin.utils.progress import track
from csrm_plugin.utils.shards import take_shard
from csrm_plugin.visualization import save_label_png

#: Beside the masks: ``generator``, ``settings``; written by ``tools/sam_masks.py``.
MASKS_MANIFEST = 'masks.json'


@dataclass(frozen=True)
class _Task:
    """What all pictures of a call share."""

    label_dir: str
    mask_dir: str
    out_dir: str
    palette: list
    num_classes: int | None
    min_mask_overlap: float
    min_label_coverage: float


def refine_folder(
    label_dir: str,
    mask_dir: str,
    out_dir: str,
    split_file: str,
    min_mask_overlap: float = 0.5,
    min_label_coverage: float = 0.85,
    workers: int = 0,
    shard: tuple[int, int] = (0, 1),
    console: Console | None = None,
    check: bool = False,
) -> dict:
    """Enhance the label maps of a split by masks (:func:`csrm_plugin.refine.enhance_labels`).

    Pictures that are in ``out_dir`` already are left alone. Classes and palette are those of ``labels.json`` in
    ``label_dir``; without one, any class index may occur and the palette is that of VOC.

    Args:
        label_dir (str): Folder of ``<id>.png``.
        mask_dir (str): Folder of masks in a form that :func:`csrm_plugin.refine.read_masks` reads.
        out_dir (str): Gets ``<id>.png`` and ``labels.json``.
        split_file (str): List of picture ids.
        min_mask_overlap (float): Fraction, 0..1.
        min_label_coverage (float): Fraction, 0..1.
        workers (int): Processes; 0 works in this one.
        shard (tuple[int, int]): Part ``i`` of ``n`` of the list.
        console (rich.console.Console, optional): Where progress goes; standard error by default.
        check (bool): Whether files that are there already are read, and made again if they are damaged.

    Returns:
        dict: Counts over this shard: ``pictures``, ``made``, ``skipped``, and over those made: ``masks_per_picture``,
        ``changed_share`` (fraction of pixels), ``without_masks`` (pictures); the first two None if none was made.

    Raises:
        MissingFileError: If a label map or the masks of a picture are missing; before anything is written.
        UserError: If a setting is out of range, ``out_dir`` holds something else, or a file is damaged.
    """
    check_overlaps(min_mask_overlap, min_label_coverage)
    check_workers(workers)
    ids = take_shard(voc_layout.read_split(split_file), shard)
    require_files(label_dir, ids, 'label maps', hint='Make them with `tools/pseudo_labels.py`.')
    require_masks(mask_dir, ids)
    content = describe(label_dir, mask_dir, min_mask_overlap, min_label_coverage)
    palette = content.get('palette') or voc_layout.voc_palette(256)
    num_classes = len(palette) if content.get('palette') else None
    refuse_foreign(label_dir, out_dir, ids)
    claim_folder(out_dir, content)
    task = _Task(label_dir, mask_dir, out_dir, palette, num_classes, min_mask_overlap, min_label_coverage)
    todo = _unfinished(task, ids, check, workers, console)
    results = run_unordered(_refine_picture, ((task, image_id) for image_id in todo), workers)
    return summarise(track(results, len(todo), 'SEPL', console=console), len(ids))


def _unfinished(task, ids, check, workers, console) -> list[str]:
    """Pictures whose label map is not there or, where they are read, damaged."""
    present = present_files(task.out_dir, (f'{image_id}.png' for image_id in ids))
    done = {image_id for image_id in ids if f'{image_id}.png' in present}
    if check:
        tasks = [(task, image_id) for image_id in ids if image_id in done]
        done -= {image_id for _, image_id in find_damaged(read_refined, tasks, workers, console)}
    return [image_id for image_id in ids if image_id not in done]


def check_workers(workers: int) -> None:
    """Raise ``UserError`` for a negative number of processes, before anything is written."""
    if workers < 0:
        raise UserError(f'--workers must be at least 0 (0: no processes of their own), but is {workers}')


def summarise(results: Iterable[tuple[int, int, int]], pictures: int) -> dict:
    """Add up (number of masks, changed pixels, pixels) of each picture made now, of so many in all."""
    made = list(results)
    masks, changed, pixels = np.array(made, dtype=np.int64).reshape(-1, 3).T
    return dict(
        pictures=pictures,
        made=len(made),
        skipped=pictures - len(made),
        masks_per_picture=float(masks.mean()) if made else None,
        changed_share=float(changed.sum() / pixels.sum()) if made else None,
        without_masks=int((masks == 0).sum()),
    )


def report_line(summary: dict) -> str:
    """The summary of :func:`refine_folder` in one line."""
    line = f'{summary["pictures"]} pictures ({summary["made"]} made now, {summary["skipped"]} were there already)'
    if not summary['made']:
        return line
    line += (
        f': {summary["masks_per_picture"]:.1f} masks per picture, {100 * summary["changed_share"]:.2f} % of the '
        f'pixels changed, {summary["without_masks"]} pictures without masks'
    )
    return line + (' (their labels are unchanged)' if summary['without_masks'] else '')


def describe(label_dir: str, mask_dir: str, min_mask_overlap: float, min_label_coverage: float) -> dict:
    """Content of the manifest: that of ``label_dir``, with ``sepl`` among its settings.

    Raises:
        UserError: If the labels are enhanced already, or a manifest is damaged.
    """
    content = read_manifest(label_dir) or {}
    settings = content.get('settings') or {}
    if not content:
        # Nothing else tells the labels of two folders without manifest apart.
        settings = {'labels': osp.realpath(label_dir)}
    if not isinstance(settings, dict):
        raise UserError(f'`{osp.join(label_dir, MANIFEST)}`: `settings` must be an object; make the labels again')
    if 'sepl' in settings:
        raise UserError(
            f'`{label_dir}` holds labels that SEPL has enhanced already, by its {MANIFEST}; give the labels from '
            'before, or remove that file to enhance them once more'
        )
    sepl = dict(
        min_mask_overlap=float(min_mask_overlap),
        min_label_coverage=float(min_label_coverage),
        masks=masks_origin(mask_dir),
    )
    return {**content, 'settings': {**settings, 'sepl': sepl}}


def masks_origin(mask_dir: str) -> str:
    """What made the masks of a folder, by its ``masks.json``; ``'unknown'`` without one."""
    path = osp.join(mask_dir, MASKS_MANIFEST)
    if not osp.isfile(path):
        return 'unknown'
    try:
        with open(path) as file:
            return str(json.load(file)['generator'])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'`{path}` has no `generator`, or is no JSON ({error!r}): make the masks again') from error


def require_masks(mask_dir: str, ids: Sequence[str]) -> None:
    """Raise ``MissingFileError`` unless each picture has masks in one of the forms."""
    if not osp.isdir(mask_dir):
        raise MissingFileError(
            f'folder `{mask_dir}` does not exist; it should hold the masks. Make them with `tools/sam_masks.py`.'
        )
    missing = voc_layout.missing_files(mask_dir, ids, '.json')
    if len(missing) < len(ids):
        import_coder()
    missing = voc_layout.missing_files(mask_dir, missing, '.npz')
    missing = [image_id for image_id in missing if not osp.isdir(osp.join(mask_dir, image_id))]
    if missing:
        raise MissingFileError(
            f'{len(missing)} of {len(ids)} pictures have no masks in `{mask_dir}`: {voc_layout.shorten(missing)} '
            f'(wanted: <id>{", <id>".join(suffix or "/ with PNG" for suffix in MASK_SUFFIXES)}). Make them with '
            '`tools/sam_masks.py`.'
        )


def refuse_foreign(label_dir: str, out_dir: str, ids: Sequence[str]) -> None:
    """Raise if ``out_dir`` is the folder of the labels, or holds label maps that no manifest speaks for."""
    if osp.realpath(out_dir) == osp.realpath(label_dir):
        raise UserError(f'--out is the folder of the labels, `{label_dir}`: give another one')
    # In this order, for another shard writes the manifest before its first label map.
    there = len(ids) - len(voc_layout.missing_files(out_dir, ids, '.png'))
    if there and read_manifest(out_dir) is None:
        raise UserError(
            f'--out: `{out_dir}` holds {there} label maps of this split but no {MANIFEST} that says how they were '
            'made: give another --out, or remove them'
        )


def _refine_picture(work) -> tuple[int, int, int]:
    """Enhance one label map: (number of masks, changed pixels, pixels)."""
    task, image_id = work
    labels = read_label_png(osp.join(task.label_dir, f'{image_id}.png'), task.num_classes)
    masks = read_masks(task.mask_dir, image_id, labels.shape)
    enhanced = enhance_labels(labels, masks, task.min_mask_overlap, task.min_label_coverage)
    save_label_png(osp.join(task.out_dir, f'{image_id}.png'), enhanced, task.palette)
    return len(masks), int((enhanced != labels).sum()), labels.size


def read_refined(work: tuple) -> str | None:
    """Read an enhanced label map, which must have the size of the one it is of: what is wrong with it, or None."""
    task, image_id = work
    name = f'{image_id}.png'
    size = read_label_png(osp.join(task.label_dir, name), task.num_classes).shape
    try:
        read_label_png(osp.join(task.out_dir, name), task.num_classes, size)
    except UserError as error:
        return str(error)
    return None
