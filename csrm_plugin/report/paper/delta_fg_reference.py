"""The classifier that a sweep of delta_fg is compared with: as it was in the checkpoint that the trials began with."""

import os.path as osp
import re
from collections.abc import Sequence
from typing import NamedTuple

from csrm_plugin.report.page.formats import is_number, number
from csrm_plugin.report.runs.records import load_record
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.sweeps import Sweep
from csrm_plugin.report.runs.validations import threshold_curve
from csrm_plugin.tracking.record import is_run
from csrm_plugin.utils import UserError

_CHECKPOINT = re.compile(r'(?P<kind>epoch|iter)_(?P<number>\d+)\.pth$')


class Reference(NamedTuple):
    """The classifier.

    Attributes:
        run (Run | None): None where there is none.
        validation (dict | None): That of its validations that the curve is from.
        who (str): What it is, in words.
        notes (list[str]): Why something is not there.
    """

    run: Run | None = None
    validation: dict | None = None
    who: str = ''
    notes: Sequence = ()


def find_reference(sweep: Sweep, folder: str | None = None) -> Reference:
    """Find the classifier, and the validation that its curve is from.

    Args:
        sweep (Sweep): Of delta_fg.
        folder (str, optional): Its work directory; by default that of the ``load_from`` of the trials.

    Raises:
        UserError: If it was asked for, but has no CAM scores per threshold.
    """
    start = str((sweep.content.get('cfg_options') or {}).get('load_from') or _recorded_start(sweep) or '')
    place = osp.dirname(start)
    if folder is not None:
        run = Run(osp.basename(osp.abspath(folder)), load_record(folder))
        if _last(run) is None:
            raise UserError(
                f'--reference: `{folder}` has no CAM scores per threshold (cam/mIoU@...); give the work directory '
                'of the classifier that the trials started from'
            )
        if start and osp.realpath(folder) == osp.realpath(place):
            return _at_start(run, start)
        return Reference(run, _last(run), f'the classifier in {folder}, at its last validation')
    hint = 'give the classifier with --reference WORK_DIR to have its curve here'
    if not start:
        return Reference(notes=[f'The trials started from no checkpoint; {hint}.'])
    if not is_run(place):
        text = f'The trials started from {start}, but {place or "."} is no work directory here; {hint}.'
        return Reference(notes=[text])
    run = Run(osp.basename(osp.abspath(place)), load_record(place))
    if _last(run) is None:
        text = f'The trials started from {start}, but its log has no CAM scores per threshold; {hint}.'
        return Reference(notes=[text])
    return _at_start(run, start)


def _at_start(run, start):
    """The classifier as it was in the checkpoint that the trials started from, as far as that is recorded."""
    name = osp.basename(start)
    validation = _validation_of(run, name)
    if validation is not None:
        who = f'the classifier that the trainings started from ({osp.join(run.folder, name)})'
        return Reference(run, validation, who)
    validation = _last(run)
    text = (
        f'The trainings started from {name} of that folder. No validation of that checkpoint with CAM scores per '
        f'threshold is recorded, so the curve is that of iteration {number(validation["iteration"])}.'
    )
    return Reference(run, validation, f'the classifier in {run.folder}, at its last validation', [text])


def _last(run):
    return next((item for item in reversed(run.validations) if threshold_curve(item['metrics'])), None)


def _validation_of(run, checkpoint):
    """The validation of a checkpoint ``epoch_<N>.pth`` or ``iter_<N>.pth`` (1-based); None where there is none."""
    match = _CHECKPOINT.search(checkpoint)
    if not match:
        return None
    number = int(match['number'])
    for item in run.validations:
        if match['kind'] == 'iter':
            found = item['iteration'] == number
        elif is_number(item.get('epoch')):
            found = item['epoch'] == number
        else:
            found = _ends_epoch(run, item['iteration'], number)
        if found and threshold_curve(item['metrics']):
            return item
    return None


def _ends_epoch(run, step, number):
    """Whether epoch ``number`` of a run without a record ended at iteration ``step``.

    Its validations have no epoch, but its training lines do: they tell how many iterations an epoch has.
    """
    lines = [(line['step'], line['epoch']) for line in run.record.train if is_number(line.get('epoch'))]
    fits = [
        ending
        for ending in (number - 1, number, number + 1)
        if ending > 0 and step % ending == 0 and all(-(-at * ending // step) == epoch for at, epoch in lines)
    ]
    return bool(lines) and fits == [number]


def _recorded_start(sweep):
    for trial in sweep.trials:
        folder = osp.join(sweep.folder, str(trial.get('folder') or ''))
        if trial.get('folder') and is_run(folder):
            start = load_record(folder).run.get('load_from')
            if start:
                return start
    return None
