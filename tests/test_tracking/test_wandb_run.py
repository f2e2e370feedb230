import json
import signal
from types import SimpleNamespace

import pytest

from csrm_plugin.tracking import wandb_run
from csrm_plugin.tracking.wandb_files import RUN_FILE, RunNote
from csrm_plugin.tracking.wandb_run import OpenRun
from csrm_plugin.tracking.wandb_voice import Voice


class Run:
    """Keeps what is asked of it."""

    def __init__(self, folder, run_id='abc', starting_step=0):
        self.id, self.dir, self.starting_step = run_id, str(folder / 'wandb' / 'files'), starting_step
        self.codes, self.rows, self.broken = [], [], False

    def define_metric(self, name, **more):
        pass

    def log(self, data, step):
        self.rows.append((step, data))

    def finish(self, exit_code):
        self.codes.append(exit_code)
        if self.broken:
            raise TimeoutError('Timed out finishing run.')


@pytest.fixture
def opened(tmp_path):
    """Opens a run in a work directory, and ends it after the test."""
    made = []

    def open_it(note=None, **arguments):
        run = OpenRun(SimpleNamespace(), Run(tmp_path, **arguments), note, str(tmp_path), Voice())
        made.append(run)
        return run

    yield open_it
    for run in made:
        run.finish(1)
    assert OpenRun.active is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def note_in(folder):
    return json.loads((folder / RUN_FILE).read_text())


@pytest.mark.parametrize(('mode', 'held'), [('online', 19), ('offline', 15)])
def test_a_run_that_goes_on_knows_what_it_holds(opened, tmp_path, mode, held):
    """Online W&B says it, offline the note does."""
    run = opened(RunNote('abc', step=15, parts=[{'folder': 'x', 'mode': 'online', 'ended': True}]), starting_step=20)
    run.record_start(mode, None, None, upload_code=False)
    assert run.rows.held == held and len(note_in(tmp_path)['parts']) == 2
    assert note_in(tmp_path)['parts'][1] == {'folder': 'wandb', 'mode': mode, 'ended': False}


def test_the_note_of_another_run_counts_for_nothing(opened, tmp_path):
    run = opened(RunNote('other', step=15))
    run.record_start('offline', None, None, upload_code=False)
    assert (run.rows.held, note_in(tmp_path)['id'], note_in(tmp_path)['step']) == (-1, 'abc', -1)


def test_code_that_cannot_be_kept_costs_nothing_else(opened, logged, monkeypatch):
    def fail(run):
        raise OSError('the disk is full')

    monkeypatch.setattr(wandb_run, 'record_code', fail)
    opened().record_start('offline', None, None, upload_code=True)
    assert logged == ['W&B: the code was not kept: the disk is full; the training goes on.']


def test_a_run_ends_once_and_in_good_order(opened, tmp_path):
    run = opened()
    run.record_start('online', None, None, upload_code=False)
    assert OpenRun.active is run and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    for code in (0, 1):
        run.finish(code)
    assert run.run.codes == [0] and run.ended and note_in(tmp_path)['parts'][0]['ended']


def test_what_could_not_be_sent_is_said(opened, tmp_path, logged):
    run = opened()
    run.record_start('online', None, None, upload_code=False)
    run.run.broken = True
    run.finish(0)
    assert (
        'not everything was sent (Timed out finishing run)' in logged[-1]
        and 'wandb sync --include-online' in logged[-1]
    )
    assert not note_in(tmp_path)['parts'][0]['ended'] and run.ended


def test_curves_are_sent_as_charts_at_the_last_step_and_a_checkpoint_only_if_asked(opened, logged, monkeypatch):
    monkeypatch.setattr(wandb_run, 'curve_chart', lambda wandb, name, *curve: (name, curve))
    kept = []
    monkeypatch.setattr(wandb_run, 'keep_checkpoint', lambda *arguments: kept.append(arguments[2:]))
    run = opened()
    run.rows.send({}, 40)
    run.keep_files({'c': ('x', [1], 'y', [2])}, None)
    assert run.run.rows[-1] == (40, {'c_chart': ('c', ('x', [1], 'y', [2]))}) and kept == []
    run.keep_files({}, 'best')
    assert kept == [('best', run._work_dir, 40)] and logged == []
