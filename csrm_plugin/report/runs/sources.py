"""What a report is about: runs, alone or side by side, the runs of a pipeline or of a folder of runs, or a sweep."""

import glob
import json
import os
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, field

from csrm_plugin.experiments.pipeline.cards import CARD
from csrm_plugin.report.runs.records import load_record
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.stages import read_stages, sub_folders
from csrm_plugin.report.runs.validations import checkpoint_folder, scores_of
from csrm_plugin.tracking.record import is_run, read_json
from csrm_plugin.utils import MissingFileError, UserError

SWEEP_FILE = 'sweep.json'
TABLE_FILE = 'table.json'


@dataclass
class Group:
    """A folder that holds several runs.

    Attributes:
        folder (str): As given.
        cards (list[dict]): Of the stages, if it is a pipeline's; else empty.
        table (dict | None): The pipeline's table, or that of the demo, where it was made.
        sheet (str | None): Path of a sheet of pictures.
    """

    folder: str
    cards: list = field(default_factory=list)
    table: dict | None = None
    sheet: str | None = None


def load_runs(work_dirs: Sequence[str | os.PathLike]) -> tuple[list[Run], list[Group]]:
    """Find and read all runs.

    Args:
        work_dirs (Sequence[str]): Folders of runs, of pipelines, or whose direct sub-folders are runs. Sub-folders
            that were set aside are passed over.

    Raises:
        MissingFileError: If a folder is not there, or has no run.
        UserError: If a file is broken, or a folder is a sweep's.
    """
    runs, groups = [], []
    for folder in work_dirs:
        found, group = _load_folder(osp.normpath(os.fspath(folder)))
        runs += found
        groups += [group] if group else []
    folders = [osp.realpath(run.folder) for run in runs]
    for run, place in zip(runs, folders):
        if folders.count(place) > 1:
            raise UserError(f'`{run.folder}` is given twice; name each run once')
    for index, (run, label) in enumerate(zip(runs, _labels(runs))):
        run.style, run.label = index, label
    return runs, groups


def is_sweep(folder: str | os.PathLike) -> bool:
    """Whether a folder is that of a sweep."""
    return osp.isfile(osp.join(folder, SWEEP_FILE))


def _load_folder(folder):
    if not osp.isdir(folder):
        raise MissingFileError(f'work directory `{folder}` does not exist')
    if is_sweep(folder):
        raise UserError(f'`{folder}` is a sweep; give it alone, not beside others')
    if is_run(folder):
        return [_load_run(folder)], None
    children = sub_folders(folder)
    if any(osp.isfile(osp.join(child, CARD)) for child in children):
        return _load_pipeline(folder)
    runs = [_load_run(child) for child in children if is_run(child)]
    if not runs:
        raise MissingFileError(
            f'`{folder}` holds no run, sweep or pipeline; give a work directory of tools/train.py, tools/sweep.py or '
            'tools/pipeline.py'
        )
    sheet = osp.join(folder, 'contact_sheet.png')
    return runs, Group(folder, table=_table_of(folder, 'demo'), sheet=sheet if osp.isfile(sheet) else None)


def _load_pipeline(folder):
    stages, runs = read_stages(folder), []
    for stage, card in stages.items():
        for place in (stage, *sub_folders(stage)):
            if is_run(place):
                runs.append(_load_run(place, card))
                runs[-1].label = card['stage']
    return runs, Group(folder, list(stages.values()), _table_of(folder, 'pipeline'))


def _table_of(folder, tool):
    """The table that a tool left in a sub-folder; None where there is none."""
    tables = [path for place in sub_folders(folder) if osp.isfile(path := osp.join(place, TABLE_FILE))]
    return read_json(tables[0], f'call tools/{tool}.py again') if tables else None


def _load_run(folder, card=None):
    return Run(osp.basename(osp.abspath(folder)), load_record(folder), card or {}, _tests_of(folder, bool(card)))


def _tests_of(folder, in_pipeline):
    """Names and contents of the files of ``tools/test.py`` that belong to a run."""
    parent, name = osp.split(osp.abspath(folder))
    tests = [(path, _test_report(path)) for path in sorted(glob.glob(osp.join(glob.escape(folder), '*.json')))]
    # The demo writes its scores beside the folder of the run, the pipeline beside that of the training.
    for path in sorted(glob.glob(osp.join(glob.escape(parent), f'{glob.escape(name)}_*.json'))):
        test = _test_report(path)
        if test and not _is_of_another(path, name, test):
            tests.append((path, test))
    if in_pipeline:
        tests += [
            (path, _test_report(path)) for path in sorted(glob.glob(osp.join(glob.escape(parent), 'test_*.json')))
        ]
    return [(osp.basename(path), test) for path, test in dict(tests).items() if test]


def _is_of_another(path, name, test):
    """Whether a file beside a run is of a run with a longer name: ``csrm_demo_val.json`` is none of ``csrm``."""
    parent, file = osp.split(path)
    others = {entry for entry in os.listdir(parent) if is_run(osp.join(parent, entry))}
    others.add(checkpoint_folder(test))  # its run may lie elsewhere by now
    return any(len(other) > len(name) and file.startswith(f'{other}_') for other in others)


def _test_report(path):
    """Content of a JSON file if it is of ``tools/test.py``, else None: other files may lie there."""
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError):
        return None
    known = isinstance(content, dict) and isinstance(content.get('context'), dict)
    return content if known and 'checkpoint' in content['context'] and scores_of(content) else None


def _labels(runs):
    """Short names that differ: of the folder, with as many of its parents as it takes."""
    labels = [run.label for run in runs]
    parts = [osp.abspath(run.folder).split(os.sep) for run in runs]
    for depth in range(2, max(map(len, parts), default=1) + 1):
        if len(set(labels)) == len(labels):
            break
        labels = [label if labels.count(label) == 1 else '/'.join(part[-depth:]) for label, part in zip(labels, parts)]
    return labels
