"""Masks of every picture of a folder or a list."""

import json
import os.path as osp
from collections.abc import Sequence

from rich.console import Console

from csrm_plugin.datasets import voc_layout
from csrm_plugin.datasets.label_folder import require_files
from csrm_plugin.inference.finished import find_damaged, present_files
from csrm_plugin.inference.refine_sam import MASKS_MANIFEST, check_workers
from csrm_plugin.inference.sam_masks.segment_anything import SamProposer
from csrm_plugin.inference.sam_masks.settings import SUPERPIXELS, SamSettings
from csrm_plugin.inference.sam_masks.superpixels import superpixel_proposer
from csrm_plugin.refine.sam import import_coder, read_records
from csrm_plugin.utils import MissingFileError, UserError, write_json
from csrm_plugin.utils.pictures import picture_size, read_rgb
from csrm_plugin.utils.processes import run_unordered
from csrm_plugin.utils.progress import track
from csrm_plugin.utils.shards import take_shard


def make_masks(
    checkpoint: str,
    pictures: str,
    out_dir: str,
    split_file: str | None = None,
    suffix: str = '.jpg',
    settings: SamSettings | None = None,
    min_mask_area: int = 0,
    points_per_batch: int = 64,
    device: str = 'auto',
    workers: int = 0,
    shard: tuple[int, int] = (0, 1),
    console: Console | None = None,
    check: bool = False,
) -> dict:
    """Write ``<id>.json`` with the masks of every picture that has none yet, and ``masks.json`` that says how.

    Args:
        checkpoint (str): Folder as ``save_pretrained`` of transformers writes it, name on the Hugging Face hub, or
            ``'superpixels'``.
        pictures (str): Folder of ``<id><suffix>``.
        out_dir (str): Gets the files.
        split_file (str, optional): List of picture ids; all pictures of the folder where None.
        suffix (str): Ending of the pictures.
        settings (SamSettings, optional): The defaults where None. Not for superpixels.
        min_mask_area (int): Smaller masks are dropped, in pixels.
        points_per_batch (int): Prompts at a time; has no effect on the masks. Halved when the memory is full.
        device (str): ``'auto'`` (CUDA where there is one), ``'cpu'``, ``'cuda:1'``, ...
        workers (int): Processes, for superpixels only; 0 works in this one.
        shard (tuple[int, int]): Part ``i`` of ``n`` of the list.
        console (rich.console.Console, optional): Where progress and messages go; standard error by default.
        check (bool): Whether files that are there already are read, and made again if they are damaged.

    Returns:
        dict: Counts over this shard: ``pictures``, ``made``, ``skipped``, and over those made: ``masks_per_picture``
        (None if none was made) and ``without_masks`` (pictures); ``origin`` (str), what made them.

    Raises:
        MissingFileError: If the checkpoint or a picture does not exist; before anything is written.
        UserError: If a setting is out of range, ``out_dir`` holds something else, a package is not installed, the
            checkpoint is no Segment Anything model, or the memory is full with one point at a time.
    """
    console = console or Console(stderr=True)
    _check_numbers(min_mask_area, points_per_batch, workers)
    import_coder()
    ids = take_shard(picture_ids(pictures, split_file, suffix), shard)
    require_files(pictures, ids, 'pictures', suffix)
    if checkpoint == SUPERPIXELS:
        proposer = superpixel_proposer(settings, min_mask_area)
    elif workers:
        raise UserError('--workers is for superpixels; run Segment Anything with a --shard per GPU instead')
    else:
        proposer = SamProposer(checkpoint, settings or SamSettings(), min_mask_area, points_per_batch, device, console)
    described = proposer.describe()
    claim_masks(out_dir, described, ids)
    tasks = [(osp.join(pictures, name + suffix), osp.join(out_dir, f'{name}.json')) for name in ids]
    todo = _unfinished(out_dir, ids, tasks, check, workers, console)
    made = run_unordered(_make_picture, ((*task, proposer) for task in todo), workers)
    counts = list(track(made, len(todo), 'masks', console=console))
    return {**_summarise(counts, len(ids)), 'origin': described['generator']}


def _unfinished(out_dir, ids, tasks, check, workers, console) -> list[tuple[str, str]]:
    """Those of the tasks (picture, file) whose file is not there or, where they are read, damaged."""
    present = present_files(out_dir, (f'{name}.json' for name in ids))
    done = [f'{name}.json' in present for name in ids]
    damaged = set()
    if check:
        there = [task for task, is_there in zip(tasks, done) if is_there]
        damaged = set(find_damaged(read_mask_file, there, workers, console))
    return [task for task, is_there in zip(tasks, done) if not is_there or task in damaged]


def read_mask_file(task: tuple[str, str]) -> str | None:
    """Read the masks of a picture (picture, file): what is wrong with them, or None."""
    picture, path = task
    try:
        read_records(path, picture_size(picture))
    except UserError as error:
        return str(error)
    return None


def _summarise(made, pictures) -> dict:
    """Counts of masks of the pictures made now, of so many in all."""
    return dict(
        pictures=pictures,
        made=len(made),
        skipped=pictures - len(made),
        masks_per_picture=sum(made) / len(made) if made else None,
        without_masks=made.count(0),
    )


def report_line(summary: dict) -> str:
    """The summary of :func:`make_masks` in one line."""
    line = f'{summary["pictures"]} pictures ({summary["made"]} made now, {summary["skipped"]} were there already)'
    if summary['made']:
        line += f': {summary["masks_per_picture"]:.1f} masks per picture, {summary["without_masks"]} without masks'
    return f'{line}; by {summary["origin"]}'


def picture_ids(pictures: str, split_file: str | None = None, suffix: str = '.jpg') -> list[str]:
    """Ids of the list, or of all pictures of the folder in alphabetical order.

    Raises:
        MissingFileError: If the folder or the list does not exist.
        UserError: If there are none.
    """
    if not osp.isdir(pictures):
        raise MissingFileError(f'folder `{pictures}` does not exist; it should hold the pictures')
    if split_file is not None:
        return voc_layout.read_split(split_file)
    ids = sorted(name for name in voc_layout.list_names(pictures, suffix) if name and not name.startswith('.'))
    if not ids:
        raise UserError(f'`{pictures}` holds no pictures that end in {suffix}: check the folder, or give --suffix')
    return ids


def claim_masks(out_dir: str, content: dict, ids: Sequence[str]) -> None:
    """Write ``masks.json``, or make sure that what is in the folder was made in the same way.

    Raises:
        UserError: If the folder holds masks made with other settings, or by something that left no ``masks.json``.
    """
    path = osp.join(out_dir, MASKS_MANIFEST)
    if osp.splitext(MASKS_MANIFEST)[0] in ids:
        raise UserError(f'a picture may not be called `masks`: its file would be {MASKS_MANIFEST}; rename it')
    # In this order, for another shard writes the manifest before its first masks.
    there = len(ids) - len(voc_layout.missing_files(out_dir, ids, '.json'))
    if not osp.isfile(path):
        if there:
            raise UserError(
                f'--out: `{out_dir}` holds masks of {there} of the pictures but no {MASKS_MANIFEST} that says how '
                'they were made: give another --out, or remove them'
            )
        write_json(path, content)
        return
    try:
        with open(path) as file:
            found = dict(json.load(file)['settings'])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'`{path}` is damaged ({error!r}): give another --out, or remove that folder') from error
    # Through JSON, for tuples become lists there.
    wanted = json.loads(json.dumps(content['settings']))
    for key in sorted({*found, *wanted}, key=lambda name: (name != 'generator', name)):
        if found.get(key) != wanted.get(key):
            raise UserError(
                f'--out: `{out_dir}` holds masks made with other settings ({key}: {found.get(key)!r} there, '
                f'{wanted.get(key)!r} now). Give another --out, or remove that folder.'
            )


def _make_picture(task) -> int:
    """Write the masks of one picture: how many."""
    picture, path, proposer = task
    records = proposer(read_rgb(picture), picture)
    write_json(path, records)
    return len(records)


def _check_numbers(min_mask_area, points_per_batch, workers):
    check_workers(workers)
    if min_mask_area < 0:
        raise UserError(f'--min-mask-area must be at least 0 pixels, but is {min_mask_area}')
    if points_per_batch < 1:
        raise UserError(f'--points-per-batch must be at least 1, but is {points_per_batch}')
