"""Write down what a training run is, scores and costs, for reports, sweeps and repetitions."""

import glob
import logging
import os
import os.path as osp
import re
import resource
import sys
import time
from datetime import datetime, timezone

import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.config import provenance
from csrm_plugin.engine.testing import report_of
from csrm_plugin.tracking import record
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.utils.models import unwrap
from csrm_plugin.utils.set_aside import set_aside

#: Checkpoints of a training, and the file that names the last one.
_CHECKPOINT = re.compile(r'(epoch|iter)_\d+\.pth|best_.*\.pth|last_checkpoint')

_PROJECT = osp.dirname(osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Write ``record/`` in the work directory: ``run.json``, and ``validation_<iteration>.json`` for each validation.

    ``run.json`` tells status, settings, seed, versions, git revision, what the run starts from, what it cost, its best
    scores and the alarms that it raised; it is written at the start, at each validation and at the end, and goes on
    after a resume. A validation's file has the metrics, the IoU of each class, the scores of each picture, and what
    they stand on. A run that starts anew in the same folder sets aside what the one before left there: its record
    becomes ``record.set_aside_<time>``, and its checkpoints are renamed alike.

    Backends of the visualizer that can (see :class:`csrm_plugin.tracking.WSSSWandbBackend`) also get the scores under
    their full names, as a summary, and the threshold curves: of the CAMs, and of the pseudo labels where these are cut
    alike.

    Args:
        interval (int): Validations between two entries of the threshold curves.
    """

    priority = 'LOW'  # after the logger, whose lines it belongs to

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise UserError(f'RunRecordHook: `interval` must be at least 1, but is {interval}.')
        self.interval = interval
        self._seen = self._validations = 0
        self._val_seconds = self._train_seconds = 0.0
        self._last: float | None = None  # when the iteration before this one ended, if nothing else came between
        self._run: dict = {}
        self._alarms: list[dict] = []  # of the parts before a resume

    def before_train(self, runner: Runner) -> None:
        """Begin a record, or go on with that of the run that is resumed."""
        self._begin = time.monotonic()
        self._main = is_main_process()
        barrier()  # every process has read the checkpoint that it starts from, which may be in the way
        if not self._main:
            return
        folder, path = record.record_path(runner.work_dir), record.record_path(runner.work_dir, record.RUN_FILE)
        # The host finds the newest checkpoint of the work directory by itself where none is named.
        goes_on = runner._resume and (not runner._load_from or _is_in(runner._load_from, runner.work_dir))
        before = record.read_json(path) if goes_on and osp.isfile(path) else {}
        _make_way(runner.work_dir, (runner.epoch, runner.iter) if goes_on else None)
        os.makedirs(folder, exist_ok=True)
        _drop_later_validations(folder, runner.iter)
        self._before = before.get('cost') or {}
        self._alarms = [alarm for alarm in before.get('alarms') or () if alarm['first'] <= runner.iter]
        self._run = {
            **describe_run(runner),
            'started': before.get('started') or _now(),
            'log_dirs': [*(before.get('log_dirs') or ()), runner.timestamp],
            'best': {},
        }
        if before:
            self._run['load_from'] = before.get('load_from')
        for path in sorted(glob.glob(osp.join(glob.escape(folder), 'validation_*.json'))):
            self._keep_best(record.read_json(path))
        self._write(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Time counts from the first iteration of the epoch on."""
        self._last = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Note the time, unless the iteration before has."""
        if self._last is None:
            self._last = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Count pictures and time, with the loading of all batches but the first after a pause."""
        now = time.monotonic()
        self._seen += len(data_batch['inputs']) if isinstance(data_batch, dict) else 0
        self._train_seconds += now - self._last
        self._last = now

    def before_val_epoch(self, runner: Runner) -> None:
        """Note the time."""
        self._val_begin, self._last = time.monotonic(), None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the validation down, and tell it to the backends."""
        if not getattr(self, '_main', False):  # also a validation without a training
            return
        self._val_seconds += time.monotonic() - self._val_begin
        report = validation_report(runner, metrics or {})
        write_json(record.record_path(runner.work_dir, f'validation_{runner.iter:07d}.json'), report)
        self._keep_best(report)
        self._write(runner)
        self._tell_backends(runner, report)
        self._validations += 1

    def after_train(self, runner: Runner) -> None:
        """Close the record."""
        if self._main:
            self._run.update(status='finished', finished=_now(), checkpoint=_last_checkpoint(runner.work_dir))
            self._write(runner)

    def after_failure(self, runner: Runner, reason: str) -> None:
        """Note that the training ended early; nothing if it had not begun.

        Args:
            runner (mmengine.runner.Runner): Of the training.
            reason (str): One line.
        """
        if self._run and self._run['status'] == 'running':
            self._run.update(status='failed', reason=reason, finished=_now())
            self._write(runner)

    def _keep_best(self, report: dict) -> None:
        for name in record.SCORES:
            value = report['metrics'].get(name)
            if value is not None and value > self._run['best'].get(name, {}).get('value', float('-inf')):
                entry = {'value': value, 'iteration': report['iteration']}
                weights = (report.get('context') or {}).get('weights')
                self._run['best'][name] = entry if weights is None else {**entry, 'weights': weights}

    def _write(self, runner: Runner) -> None:
        self._run['iteration'] = runner.iter
        self._run['alarms'] = merge_alarms(self._alarms, runner)
        self._run['cost'] = self._cost(runner)
        write_json(record.record_path(runner.work_dir, record.RUN_FILE), self._run)

    def _cost(self, runner: Runner) -> dict:
        """What the run took so far, with its parts before a resume."""
        processes, before = get_world_size(), self._before
        seconds = {
            'seconds': time.monotonic() - self._begin,
            'train_seconds': self._train_seconds,
            'val_seconds': self._val_seconds,
        }
        rate = self._seen * processes / self._train_seconds if self._train_seconds else before.get('images_per_second')
        peak = before.get('peak_memory_mib') or {}
        return {
            **{name: round(value + (before.get(name) or 0), 2) for name, value in seconds.items()},
            'images_per_second': None if rate is None else round(rate, 3),
            'peak_memory_mib': {
                name: max(filter(None, (value, peak.get(name))), default=None) for name, value in _memory().items()
            },
            'processes': processes,
            'device': torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu',
            'parameters': sum(value.numel() for value in unwrap(runner.model).parameters() if value.requires_grad),
        }

    def _tell_backends(self, runner: Runner, report: dict) -> None:
        for backend in runner.visualizer._vis_backends.values():
            if hasattr(backend, 'add_summary'):
                scores = {name: value for name, value in report['metrics'].items() if name in record.SCORES}
                named = {record.full_name(name, report): value for name, value in scores.items()}
                best = {f'best/{name}': entry['value'] for name, entry in self._run['best'].items()}
                weights = report['context'].get('weights')
                whose = {} if weights is None else {'whose weights': weights}
                backend.add_summary({**scores, **named, **best, **whose})
            if not hasattr(backend, 'add_curve') or self._validations % self.interval:
                continue
            for part in ('cam', 'pseudo'):
                curve = threshold_curve(report['metrics'], part)
                if curve:
                    name = f'{part}/threshold_curve'
                    backend.add_curve(name, 'threshold', curve[0], 'mIoU', curve[1], step=runner.iter)


def describe_run(runner: Runner) -> dict:
    """What a run is, as far as it is known before its first iteration."""
    cfg, dataset = runner.cfg, runner.train_dataloader.dataset
    meta = getattr(dataset, 'metainfo', {})
    name = cfg.filename or runner.experiment_name
    return {
        'format': 1,
        'status': 'running',
        'reason': None,
        'config': _shown_path(name),
        'name': osp.splitext(osp.basename(name))[0],
        'seed': runner.seed,
        'settings': provenance.config_settings(cfg),
        'sources': {key: value for key, value in provenance.config_sources(cfg).items() if key != 'load_from'},
        'classes': list(meta.get('classes') or ()),
        'palette': [list(colour) for colour in meta.get('palette') or ()],
        'iterations': runner.max_iters,
        'epochs': runner.max_epochs if 'Epoch' in type(runner.train_loop).__name__ else None,
        'finished': None,
        'load_from': None if runner._resume else cfg.get('load_from'),
        'checkpoint': None,
        'versions': provenance.versions(),
        'git': provenance.git_revision(),
    }


def merge_alarms(before: list[dict], runner: Runner) -> list[dict]:
    """What has been found wrong with a run, as :class:`csrm_plugin.engine.hooks.CollapseAlarmHook` keeps it.

    Args:
        before (list[dict]): Of the part of the run before a resume.
        runner (mmengine.runner.Runner): Whose hooks tell the rest.
    """
    found = {alarm['kind']: alarm for alarm in before}
    for hook in getattr(runner, 'hooks', ()):
        for alarm in getattr(hook, 'alarms', ()):
            first = min(found.get(alarm['kind'], alarm)['first'], alarm['first'])
            found[alarm['kind']] = {**alarm, 'first': first}
    return list(found.values())


def validation_report(runner: Runner, metrics: dict) -> dict:
    """The report of a validation: metrics, parts with the IoU of each class, context, scores of each picture."""
    report = report_of(runner, metrics, 'val')
    pictures = [entry for metric in runner.val_evaluator.metrics for entry in getattr(metric, 'pictures', ())]
    return {
        'iteration': runner.iter,
        'epoch': runner.epoch,
        'metrics': dict(metrics),
        'parts': {name: report[name] for name in ('cam', 'pseudo', 'seg') if isinstance(report.get(name), dict)},
        'context': report['context'],
        'pictures': pictures,
    }


def threshold_curve(metrics: dict, part: str = 'cam') -> tuple[list[float], list[float]] | None:
    """Thresholds and mIoU (percent) of the entries ``<part>/mIoU@<threshold>``; None where there are none."""
    prefix = f'{part}/mIoU@'
    points = sorted(
        (float(name.removeprefix(prefix)), value) for name, value in metrics.items() if name.startswith(prefix)
    )
    return ([point[0] for point in points], [point[1] for point in points]) if points else None


def _memory() -> dict:
    """Peak memory of this process in MiB, of the host and of its GPU."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == 'linux' else 1024**2)
    gpu = torch.cuda.max_memory_allocated() / 1024**2 if torch.cuda.is_available() else None
    return {'host': round(used, 1), 'gpu': None if gpu is None else round(gpu, 1)}


def _make_way(work_dir: str, progress: tuple[int, int] | None) -> None:
    """Set aside what this run would write over in its work directory.

    Args:
        work_dir (str): Of the run.
        progress (tuple[int, int] | None): Epoch and iteration of the checkpoint there that the run goes on from: what
            came later is in the way. None for a run that begins: record and checkpoints of an earlier one are.
    """
    names = sorted(name for name in os.listdir(work_dir) if _CHECKPOINT.fullmatch(name))
    found = [osp.join(work_dir, name) for name in names]
    folder = record.record_path(work_dir)
    if progress is not None:
        found = [path for path in found if _is_later(path, progress)]
        if found and osp.isdir(folder):
            later = [name for name in sorted(os.listdir(folder)) if _validated_after(name, progress[1])]
            found += [osp.join(folder, name) for name in later]
    elif osp.isdir(folder) and os.listdir(folder):
        found.insert(0, folder)
    moved = [osp.basename(set_aside(path)) for path in found]
    if moved:
        print_log(
            f'What an earlier run left in {work_dir} would be written over; it is set aside: {", ".join(moved)}.',
            logger='current',
            level=logging.WARNING,
        )


def _is_in(path: str, folder: str) -> bool:
    return osp.realpath(osp.dirname(path)) == osp.realpath(folder)


def _is_later(path: str, progress: tuple[int, int]) -> bool:
    """Whether ``epoch_N.pth`` or ``iter_N.pth`` comes after an epoch and iteration."""
    match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', osp.basename(path))
    return match is not None and int(match[2]) > progress[match[1] == 'iter']


def _validated_after(name: str, iteration: int) -> bool:
    """Whether a file of the record is a validation after an iteration."""
    stem = osp.splitext(name)[0].removeprefix('validation_')
    return name.startswith('validation_') and stem.isdigit() and int(stem) > iteration


def _drop_later_validations(folder: str, iteration: int) -> None:
    """Remove what a run wrote after the checkpoint that it goes on from: it comes again."""
    for name in os.listdir(folder):
        if _validated_after(name, iteration):
            os.unlink(osp.join(folder, name))


def _last_checkpoint(work_dir: str) -> str | None:
    path = osp.join(work_dir, 'last_checkpoint')
    if not osp.isfile(path):
        return None
    with open(path) as file:
        return osp.basename(file.read().strip())


def _shown_path(path: str) -> str:
    """A path as from the project's folder or the working directory, if it lies there; else its name."""
    for root in (_PROJECT, os.curdir):
        relative = osp.relpath(path, root)
        if not relative.startswith(os.pardir):
            return relative
    return osp.basename(path)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec='seconds')
