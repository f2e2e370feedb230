"""What a report is about: runs, alone or side by side, the runs of a pipeline or of a folder of runs, or a sweep."""

import glob
import json
import os
import os.path as osp
import re
from dataclasses import dataclass, field

from ...pipeline.cards import CARD, read_card
from ...pipeline.cards import read_run as read_cards
from ...utils import MissingFileError, UserError
from ..record import RunRecord, is_run, read_run
from .formats import is_number

SWEEP_FILE = 'sweep.json'
TABLE_FILE = 'table.json'

#: Keys of a validation that are scores, all in percent and the higher the better.
_SCORE = re.compile(r'(iou|map|acc|dice|f1)(?![a-z])', re.IGNORECASE)
_AT_THRESHOLD = re.compile(r'^(?P<part>.+)@(?P<threshold>\d*\.?\d+)$')


@dataclass
class Run:
    """A run as the report sees it.

    Attributes:
        label (str): Short, unique in the report.
        record (RunRecord): What its work directory tells.
        card (dict): Card of the pipeline's stage that it belongs to, or empty.
        tests (list[tuple[str, dict]]): Names and contents of files of ``tools/test.py --json`` beside the run.
        style (int): Number in the report, which decides on its colour.
    """

    label: str
    record: RunRecord
    card: dict = field(default_factory=dict)
    tests: list = field(default_factory=list)
    style: int = 0

    @property
    def folder(self) -> str:
        """The work directory."""
        return self.record.folder

    @property
    def info(self) -> dict:
        """``run.json``, or what the card of the stage tells of it."""
        if self.record.run:
            return self.record.run
        if not self.card:
            return {}
        config = self.card.get('config') or {}
        known = dict(config=config.get('file'), settings=config.get('settings') or {}, seed=self.card.get('seed'))
        return {**known, **{key: self.card[key] for key in ('versions', 'git') if self.card.get(key)}}

    @property
    def settings(self) -> dict:
        """All settings, flat; empty where none were recorded."""
        return self.info.get('settings') or {}

    @property
    def seed(self):
        """Seed of the training, or None."""
        seed = self.info.get('seed')
        return self.settings.get('randomness.seed') if seed is None else seed

    @property
    def validations(self) -> list[dict]:
        """Every validation: ``iteration``, ``metrics``, ``parts``, ``context``; from the record, else from the log."""
        found = {line['step']: dict(iteration=line['step'], metrics=line) for line in self.record.val}
        found |= {item.get('iteration', 0): item for item in self.record.validations}
        parts = ('metrics', 'parts', 'context')
        return [{**found[step], **{key: found[step].get(key) or {} for key in parts}} for step in sorted(found)]

    @property
    def iteration(self):
        """The last iteration that is known."""
        steps = [line['step'] for line in (*self.record.train, *self.record.val)]
        return max([*steps, self.info.get('iteration') or 0], default=0)


@dataclass
class Group:
    """A folder that holds several runs.

    Attributes:
        folder (str): As given.
        cards (list[dict]): Of the stages, if it is a pipeline's; else empty.
        table (dict | None): The pipeline's table, where it was made.
        sheet (str | None): Path of a sheet of pictures.
    """

    folder: str
    cards: list = field(default_factory=list)
    table: dict | None = None
    sheet: str | None = None


def load_runs(work_dirs) -> tuple[list[Run], list[Group]]:
    """Find and read all runs.

    Args:
        work_dirs (Sequence[str]): Folders of runs, of pipelines, or whose direct sub-folders are runs.

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


def is_sweep(folder) -> bool:
    """Whether a folder is that of a sweep."""
    return osp.isfile(osp.join(folder, SWEEP_FILE))


def read_object(path) -> dict:
    """A JSON object from a file.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it holds something else.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise MissingFileError(f'`{path}` does not exist') from error
    except ValueError as error:
        raise UserError(f'`{path}` is no JSON: {error}; remove it, or make it again') from error
    if not isinstance(content, dict):
        raise UserError(f'`{path}` must hold a JSON object; remove it, or make it again')
    return content


def scores_of(metrics) -> dict[str, float]:
    """The scores among the entries of a validation, in percent, without those at single thresholds."""
    return {
        key: value
        for key, value in metrics.items()
        if _SCORE.search(key) and not _AT_THRESHOLD.match(key) and is_number(value)
    }


def threshold_curve(metrics) -> list[tuple[float, float]]:
    """Threshold (0..1) and mIoU (percent) of a validation's ``cam/mIoU@t``, ascending in the threshold."""
    points = []
    for key, value in metrics.items():
        match = _AT_THRESHOLD.match(key)
        if match and is_number(value):
            points.append((float(match['threshold']), value))
    return sorted(points)


def best_validation(run, metric: str) -> tuple[float, int] | None:
    """Highest value of a score and its iteration (the first that has it); None where there is no value."""
    values = [(item['metrics'].get(metric), item['iteration']) for item in run.validations]
    known = [pair for pair in values if is_number(pair[0])]
    return max(known, key=lambda pair: pair[0]) if known else None


def split_of(context) -> str | None:
    """Name of the split of a validation or a test, by the name of its list where it is not said."""
    name = str(context.get('ann_file') or '').rsplit('/', 1)[-1]
    return context.get('split') or name.rsplit('.', 1)[0] or None


def _load_folder(folder):
    if not osp.isdir(folder):
        raise MissingFileError(f'work directory `{folder}` does not exist')
    if is_sweep(folder):
        raise UserError(f'`{folder}` is a sweep; give it alone, not beside others')
    if is_run(folder):
        return [_load_run(folder)], None
    children = [osp.join(folder, name) for name in sorted(os.listdir(folder))]
    children = [child for child in children if osp.isdir(child)]
    if any(osp.isfile(osp.join(child, CARD)) for child in children):
        return _load_pipeline(folder)
    runs = [_load_run(child) for child in children if is_run(child)]
    if not runs:
        raise MissingFileError(
            f'`{folder}` holds no run, sweep or pipeline; give a work directory of tools/train.py, tools/sweep.py or '
            'tools/pipeline.py'
        )
    sheet = osp.join(folder, 'contact_sheet.png')
    return runs, Group(folder, sheet=sheet if osp.isfile(sheet) else None)


def _load_pipeline(folder):
    cards, runs = read_cards(folder), []
    places = {}
    for name in sorted(os.listdir(folder)):
        card = read_card(osp.join(folder, name)) if osp.isdir(osp.join(folder, name)) else None
        if card:
            places[card['stage']] = osp.join(folder, name)
    for card in cards:
        stage = places[card['stage']]
        for place in (stage, *sorted(glob.glob(osp.join(glob.escape(stage), '*')))):
            if osp.isdir(place) and is_run(place):
                runs.append(_load_run(place, card))
                runs[-1].label = card['stage']
    tables = sorted(glob.glob(osp.join(glob.escape(folder), '*', TABLE_FILE)))
    return runs, Group(folder, cards, read_object(tables[0]) if tables else None)


def _load_run(folder, card=None):
    # The demo writes its scores beside the folder of the run, the pipeline beside that of the training.
    name = glob.escape(osp.basename(osp.abspath(folder)))
    parent = glob.escape(osp.dirname(osp.abspath(folder)))
    patterns = [osp.join(glob.escape(folder), '*.json'), osp.join(parent, f'{name}_*.json')]
    if card:
        patterns.append(osp.join(parent, 'test_*.json'))
    tests = [(path, _test_report(path)) for pattern in patterns for path in sorted(glob.glob(pattern))]
    label = osp.basename(osp.abspath(folder))
    return Run(label, read_run(folder), card or {}, [(osp.basename(path), test) for path, test in tests if test])


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
