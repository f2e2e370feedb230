"""What a report is about: runs, alone or side by side, the runs of a pipeline or of a folder of runs, or a sweep."""

import glob
import json
import os
import os.path as osp
import re
from dataclasses import dataclass, field

from csrm_plugin.experiments.pipeline.cards import CARD, read_card
from csrm_plugin.experiments.pipeline.cards import read_run as read_cards
from csrm_plugin.report.formats import is_number
from csrm_plugin.tracking.record import PICTURES_FILE, RUN_FILE, RunRecord, is_run, read_run, record_path
from csrm_plugin.utils import MissingFileError, UserError

SWEEP_FILE = 'sweep.json'
TABLE_FILE = 'table.json'

#: Keys of a validation that are scores, all in percent and the higher the better.
_SCORE = re.compile(r'(iou|map|acc|auc|dice|f1)(?![a-z])', re.IGNORECASE)
_AT_THRESHOLD = re.compile(r'^(?P<part>.+)@(?P<threshold>\d*\.?\d+)$')
#: Metrics of the curves over the threshold: CAMs, and the pseudo labels of another source, cut as CAMs are.
CAM_CURVE, CUT_CURVE = 'cam/mIoU', 'pseudo/mIoU'

#: What parts of a record must be, where they are there: key to types, for each kind of file.
_RUN_TYPES = {
    **dict.fromkeys(('settings', 'sources', 'cost', 'versions', 'git'), dict),
    **dict.fromkeys(('classes', 'palette', 'log_dirs'), list),
    **dict.fromkeys(('config', 'name', 'status', 'load_from', 'checkpoint'), str),
}
_VALIDATION_TYPES = {'parts': dict, 'context': dict}
_ITEM_TYPES = {'labels': list, 'panels': list}
_WORDS = {dict: 'an object', list: 'a list', str: 'a text'}


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


def load_record(folder) -> RunRecord:
    """Read the record of a run, and check that its parts are what a report takes them for.

    Raises:
        MissingFileError: If there is no such run.
        UserError: If a file of it is broken.
    """
    record = read_run(folder)
    _check_parts(record_path(folder, RUN_FILE), record.run, _RUN_TYPES)
    _check_parts(record_path(folder, RUN_FILE), record.run.get('cost') or {}, {'peak_memory_mib': dict}, 'cost: ')
    for colour in record.run.get('palette') or ():
        if not isinstance(colour, list) or len(colour) < 3 or not all(map(is_number, colour)):
            raise UserError(
                f'`{record_path(folder, RUN_FILE)}`: `palette` must hold lists of three numbers, not {colour}'
            )
    for report in record.validations:
        path = record_path(folder, f'validation_{report["iteration"]:07d}.json')
        _check_parts(path, report, _VALIDATION_TYPES)
        _check_parts(path, report.get('context') or {}, {'pseudo_label': dict, 'scales': list}, 'context: ')
        _check_parts(path, report.get('parts') or {}, dict.fromkeys(report.get('parts') or {}, dict), 'parts: ')
        for name, part in (report.get('parts') or {}).items():
            _check_parts(path, part or {}, {'iou': dict}, f'parts: {name}: ')
    _check_pictures(record_path(folder, PICTURES_FILE), record.pictures or {})
    return record


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


def threshold_curve(metrics, metric: str = CAM_CURVE) -> list[tuple[float, float]]:
    """Threshold (0..1) and mIoU (percent) of a validation's ``<metric>@t``, ascending in the threshold.

    Other scores at thresholds are none of it.

    Args:
        metrics (dict): Of the validation.
        metric (str): ``cam/mIoU``, or ``pseudo/mIoU`` for the source of the pseudo labels, cut at t as well.
    """
    points = []
    for key, value in metrics.items():
        match = _AT_THRESHOLD.match(key)
        if match and match['part'] == metric and is_number(value):
            points.append((float(match['threshold']), value))
    return sorted(points)


def best_validation(run, metric: str) -> tuple[float, int] | None:
    """Highest value of a score and its iteration (the first that has it); None where there is no value."""
    values = [(item['metrics'].get(metric), item['iteration']) for item in run.validations]
    known = [pair for pair in values if is_number(pair[0])]
    return max(known, key=lambda pair: pair[0]) if known else None


def checkpoint_folder(test) -> str:
    """Name of the folder of the checkpoint that was tested; empty where it is not said."""
    return osp.basename(osp.dirname(str(test['context'].get('checkpoint') or '')))


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


def _check_parts(path, content, types, where=''):
    for key, kind in types.items():
        if not isinstance(content.get(key), (kind, type(None))):
            raise UserError(f'`{path}`: {where}`{key}` must be {_WORDS[kind]}; remove the file, or train again')


def _check_pictures(path, content):
    """Check ``pictures.json``: objects in lists, and files that lie in the record."""
    _check_parts(path, content, {'items': list})
    inside = osp.realpath(osp.dirname(path)) + os.sep
    for index, item in enumerate(content.get('items') or ()):
        panels = item.get('panels') or () if isinstance(item, dict) else None
        if panels is not None:
            _check_parts(path, item, _ITEM_TYPES, f'picture {index}: ')
        if panels is None or any(not isinstance(panel, dict) for panel in panels):
            raise UserError(f'`{path}`: picture {index} or a panel of it is no object; remove the file, or train again')
        for panel in panels:
            file = str(panel.get('file'))
            if not osp.realpath(osp.join(inside, file)).startswith(inside):
                raise UserError(f'`{path}`: picture {index}: `{file}` lies outside {inside}; mend or remove the file')


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
