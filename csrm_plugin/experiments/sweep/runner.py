"""Run a sweep: start trials, follow what they log, stop the bad ones, and keep sweep.json up to date."""

import contextlib
import logging
import os
import os.path as osp
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import optuna
from mmengine.logging import MMLogger
from rich.console import Console

from csrm_plugin.experiments.children import job_environment, project_path, visible_gpus
from csrm_plugin.experiments.sweep import ownership
from csrm_plugin.experiments.sweep.command import Command, parse_command
from csrm_plugin.experiments.sweep.definition import read_sweep
from csrm_plugin.experiments.sweep.prepare import check_jobs, check_settings, refuse_other_trials
from csrm_plugin.experiments.sweep.result import best_options, importances_of, sweep_content, write_result
from csrm_plugin.experiments.sweep.rows import Row, best_row, folder_name
from csrm_plugin.experiments.sweep.storage import hide_password
from csrm_plugin.experiments.sweep.study import SharedStudy
from csrm_plugin.experiments.sweep.table import (
    Display,
    format_params,
    format_time,
    format_value,
    summary_line,
)
from csrm_plugin.experiments.sweep.trial import TrialRun
from csrm_plugin.utils import UserError
from csrm_plugin.utils.processes import available_cores

#: Seconds between two looks at the trainings.
PAUSE = 0.2
#: Seconds between two looks at what other processes do.
LOOK = 2.0


def run_sweep(
    path: str,
    root: str,
    console: Console,
    trials: int | None = None,
    jobs: int = 1,
    config: str | None = None,
    options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    retries: int = 0,
    max_failures: int = 5,
    seed: int | None = None,
    report: Callable[[str], str] | None = None,
) -> dict:
    """Run a sweep file, or what is left of it.

    Args:
        path (str): The sweep file.
        root (str): Folder of the project.
        console (rich.console.Console): Where to print.
        trials (int, optional): Finished trials that the study is to have in all; a grid has an end of its own.
        jobs (int): Trials at a time in this process.
        config (str, optional): Config file in place of that in the command.
        options (Mapping[str, Any], optional): Fixed settings.
        work_dir (str, optional): The sweep's folder; default ``work_dirs/sweeps/<name>``.
        storage (str, optional): URL of a database; default a journal in the folder.
        name (str, optional): Of the study; default ``<sweep file>_<config>``.
        retries (int): How often a trial that failed by itself is tried again.
        max_failures (int): Failures in a row after which nothing new is started.
        seed (int, optional): Of random and Bayes search; default that of the study, 0 for a new one.
        report (Callable[[str], str], optional): Writes a report of the sweep's folder at the end; gives its path.

    Returns:
        dict: Content of ``sweep.json``.

    Raises:
        UserError: If something is wrong before the first trial, or the sweep did not come to its end.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; running trials are queued again.
    """
    for option, value, low in (('--jobs', jobs, 1), ('--retries', retries, 0), ('--max-failures', max_failures, 1)):
        if value < low:
            raise UserError(f'{option} must be at least {low}, but is {value}')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings('ignore', module=r'optuna(\..*)?')
    sweep = read_sweep(path)
    command = parse_command(sweep, root, config, options)
    check_jobs(command, jobs)
    setting = check_settings(sweep, command)
    stems = [osp.splitext(osp.basename(file))[0] for file in (path, command.config)]
    name = name or '_'.join(stems)
    folder = work_dir or osp.join('work_dirs', 'sweeps', name)
    os.makedirs(folder, exist_ok=True)
    with explain_storage(storage):
        shared = SharedStudy(sweep, folder, name, setting, trials, retries, seed, storage)
        refuse_other_trials(folder, shared)
        runner = Runner(shared, command, folder, console, jobs, max_failures, root, report)
        return runner.run()


@contextlib.contextmanager
def explain_storage(url: str | None) -> Iterator[None]:
    """Turn errors of a database into one line."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        what = hide_password(url) if url else 'the journal'
        raise UserError(f'{what} failed: {" ".join(str(error).split())[:200]}; call again to go on') from error


class Runner:
    """Runs trials of a study until it has as many as wanted.

    Everything happens in one thread: a training dies with the thread that started it.

    Args:
        shared (SharedStudy): The study.
        command (Command): Of the trials.
        folder (str): The sweep's folder.
        console (rich.console.Console): Where to print.
        jobs (int): Trials at a time.
        max_failures (int): Failures in a row after which nothing new is started.
        root (str): Folder of the project.
        report (Callable[[str], str], optional): See :func:`run_sweep`.
    """

    def __init__(
        self,
        shared: SharedStudy,
        command: Command,
        folder: str,
        console: Console,
        jobs: int,
        max_failures: int,
        root: str,
        report: Callable[[str], str] | None = None,
    ) -> None:
        self.shared, self.command, self.folder = shared, command, folder
        self.jobs, self.max_failures, self.report = jobs, max_failures, report
        self.sweep, self.metric = shared.sweep, shared.sweep.metric.name
        self.display = Display(console, self.sweep, shared.wanted, shared.retries)
        self.runs: list[TrialRun] = []
        #: Reasons of the failures since the last trial that went well.
        self.failures: list[str] = []
        #: Why nothing new is started; None while all is well.
        self.closed: str | None = None
        self.signals = 0
        self._looked, self._written, self._changed = -LOOK, -LOOK, True
        self._importances: tuple = (None, (None, None))
        self._waited_for: list[int] = []
        self._environment = project_path(root) | command.environment
        texts = {
            'WANDB_RUN_GROUP': shared.name,
            'WANDB_PROJECT': self.sweep.content.get('project'),
            'WANDB_ENTITY': self.sweep.content.get('entity'),
        }
        self._environment |= {name: text for name, text in texts.items() if text and name not in os.environ}
        self._gpus = visible_gpus() if jobs > 1 else []

    def run(self) -> dict:
        """Run trials to the end; see :func:`run_sweep`."""
        for note in self.sweep.notes:
            self.display.event(f'note: {note}', 'dim')
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self.display.shown():
                self.shared.fill()
                while self._step():
                    time.sleep(PAUSE)
        finally:
            for run in self.runs:
                run.child.stop(at_once=True)
            for number, handler in before.items():
                signal.signal(number, handler)
        content = self._write()
        if self.signals:
            raise KeyboardInterrupt
        return self._end(content)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def _step(self) -> bool:
        """One round; False at the end."""
        for run in list(self.runs):
            self._follow(run)
        if self.signals:
            self._interrupt()
            return False
        now = time.monotonic()
        if now - self._looked >= LOOK or (self._changed and len(self.runs) < self.jobs):
            self._looked = now
            if not self._look_around():
                return False
        if self._changed and now - self._written >= LOOK / 2:
            self._write()
        return True

    def _look_around(self) -> bool:
        """Take over what dead processes left and start new trials; False if there is nothing left to do or wait for."""
        for row in self.shared.recover():
            how = f'failed: {row.reason}' if row.state == 'failed' else f'was {row.state} before its process was killed'
            self.display.event(f'trial {row.number} {how}', 'red' if row.state == 'failed' else 'green')
            self._changed = True
        rows = self.shared.rows()
        self._check_target(rows)
        while self.closed is None and len(self.runs) < self.jobs and not self.signals:
            if not self._start():
                break
            rows = None
        rows = self.shared.rows() if rows is None else rows
        self.display.update(rows)
        if self.runs:
            return True
        others = [row.number for row in rows if row.state == 'running' and row.slot < self.shared.wanted]
        if self.closed is not None or not others:
            return False
        if others != self._waited_for:
            self._waited_for = others
            self.display.event(f'waiting for other processes: trial {", ".join(map(str, others))}', 'dim')
        return True

    def _start(self) -> bool:
        """Start a trial; False if there is none to start."""
        trial = self.shared.claim()
        if trial is None:
            return False
        values = self.shared.values(trial)
        place = min(set(range(self.jobs)) - {run.place for run in self.runs})
        folder = osp.join(self.folder, folder_name(trial.number))
        environment = self._environment | job_environment(
            place, self.jobs, self.command.processes, self._gpus, available_cores(), os.environ
        )
        command = self.command.build(values, folder)
        self.runs.append(TrialRun(trial, folder, command, environment, self.metric, place))
        self.display.event(f'trial {trial.number} starts: {format_params(values, self.sweep.searched)}')
        self._changed = True
        return True

    def _follow(self, run: TrialRun) -> None:
        """Hand on what a training has logged, and end its trial when it is over."""
        status, values = run.poll()
        if not run.told:
            self._report(run, values, running=status is None)
        if status is None:
            if run.told:
                run.child.stop()
            elif time.monotonic() - run.beat >= ownership.BEAT:
                run.beat = time.monotonic()
                self._still_ours(run, self.shared.beat(run.trial))
            return
        if not run.told:
            if self.signals and status != 0:
                return  # Ctrl-C reaches the trainings too
            self._finish(run, run.outcome(status))
        self.runs.remove(run)
        self._changed = True

    def _report(self, run: TrialRun, values: Sequence[tuple[int, float]], running: bool) -> None:
        """Store values of the metric, and stop the training if the study says so."""
        for iteration, value in values:
            self._changed = True
            if value - value != 0:  # NaN and infinity have no place in a comparison
                continue
            if not self._still_ours(run, self.shared.report(run.trial, iteration, value)):
                return
            if running and self.sweep.early_terminate and run.trial.should_prune():
                reason = f'pruned at iteration {iteration}: {self.metric} {format_value(value)}'
                self._finish(run, dict(state='PRUNED', value=value, reason=reason, seconds=run.seconds))
                run.child.stop()
                return

    def _still_ours(self, run: TrialRun, ours: bool) -> bool:
        """Give up a training whose trial another process has ended."""
        if not ours and not run.told:
            run.told = True
            run.child.stop()
            self.display.event(
                f'trial {run.trial.number}: another process took this one for dead and queued the trial again', 'yellow'
            )
        return ours

    def _finish(self, run: TrialRun, outcome: dict) -> None:
        """End a trial in the study."""
        if not self._still_ours(run, self.shared.finish(run.trial, outcome)):
            return
        run.told = self._changed = True
        number, took = run.trial.number, format_time(outcome['seconds'])
        if outcome['state'] == 'FAIL':
            self.display.event(f'trial {number} failed after {took}: {outcome["reason"]}; its log is {run.log}', 'red')
            self.failures.append(f'trial {number}: {outcome["reason"]}')
            if len(self.failures) >= self.max_failures and self.closed is None:
                self.closed = 'failures'
                self.display.event(f'{len(self.failures)} failures in a row: no new trial is started', 'red')
            return
        self.failures.clear()
        if outcome['state'] == 'PRUNED':
            self.display.event(f'trial {number} {outcome["reason"]} (after {took})', 'yellow')
        else:
            where = f'{format_value(outcome["value"])} at iteration {run.values[-1][0]}'
            self.display.event(f'trial {number} complete after {took}: {self.metric} {where}', 'green')

    def _check_target(self, rows: Sequence[Row]) -> None:
        """Start nothing new once a trial has logged the target."""
        row = self.shared.target_row(rows) if self.closed is None else None
        if row is not None:
            self.closed = 'target'
            self.display.event(f'trial {row.number} has reached the target {self.sweep.metric.target}', 'green')

    def _interrupt(self) -> None:
        """End the trainings and queue their trials again; a second signal kills them."""
        for run in self.runs:
            if not run.told:
                ended = dict(state='FAIL', why='interrupted', reason='interrupted', seconds=run.seconds)
                self.shared.finish(run.trial, ended)
                run.told = True
        while any(run.child.poll() is None for run in self.runs):
            for run in self.runs:
                run.child.stop(at_once=self.signals > 1)
            time.sleep(PAUSE / 2)

    def _write(self) -> dict:
        """Write sweep.json and trials.csv as the study is now."""
        self._written, self._changed = time.monotonic(), False
        with self.shared.lock():
            rows = self.shared.rows()
            complete = [row.number for row in rows if row.state == 'complete']
            if self._importances[0] != complete:
                self._importances = (complete, importances_of(self.shared.study, rows))
            config, options, shares = self.command.config, self.command.options, self._importances[1][0]
            content = sweep_content(self.sweep, self.shared.name, config, options, rows, shares)
            write_result(self.folder, content)
        self.display.update(rows)
        return content

    def _end(self, content: dict) -> dict:
        """Say what came out.

        Raises:
            UserError: If the sweep did not come to its end.
        """
        rows, say = self.shared.rows(), self.display.event
        say(summary_line(rows, self.sweep, self.shared.wanted, self.shared.retries))
        best = best_row(rows, self.sweep.metric.maximize)
        if best is not None:
            say(f'best settings: {best_options(best, self.command.options)}')
            shares, why = self._importances[1]
            text = why or 'importances: ' + ', '.join(f'{name} {share:.2f}' for name, share in shares.items())
            say(text, 'dim')
        say(f'results: {osp.join(self.folder, "sweep.json")}, {osp.join(self.folder, "trials.csv")}')
        if self.report is not None and any(row.curve for row in rows):
            self._write_report()
        finished = self.shared.finished(rows)
        if self.closed == 'failures':
            raise UserError(
                f'{len(self.failures)} failures in a row ({"; ".join(self.failures[-3:])}); '
                'mend the cause and call again to go on'
            )
        if best is None:
            failed = [row for row in rows if row.state == 'failed']
            last = f'; the last one: {failed[-1].reason}' if failed else ''
            raise UserError(f'no trial of {self.sweep.path} is complete, {len(failed)} failed{last}')
        if self.closed is None and finished < self.shared.wanted:
            raise UserError(f'{finished} of {self.shared.wanted} trials are done; call again to go on')
        return content

    def _write_report(self) -> None:
        """Write the HTML report; a sweep is not lost for it."""
        try:
            self.display.event(f'report: {self.report(self.folder)}')
        except Exception as error:
            self.display.event(f'the report could not be written: {error}', 'yellow')
