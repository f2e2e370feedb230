import json

import pytest

from csrm_plugin.tracking.wandb_files import RUN_FILE, RunNote
from csrm_plugin.tracking.wandb_rows import Rows
from csrm_plugin.tracking.wandb_voice import Voice


class Run:
    """Keeps what is logged."""

    def __init__(self):
        self.rows = []

    def log(self, data, step):
        self.rows.append((step, data))


@pytest.fixture
def rows():
    return Rows(Run(), Voice())


def test_the_iteration_is_the_step_and_a_number_of_the_row(rows):
    rows.send({'loss': 1.0}, 10)
    rows.send({'mIoU': 2.0}, 10.0)
    assert rows._run.rows == [(10, {'loss': 1.0, 'iteration': 10}), (10, {'mIoU': 2.0, 'iteration': 10})]
    assert rows.step == 10


def test_what_comes_too_late_is_refused_and_said_once_for_each_name(rows, logged):
    rows.send({'loss': 1.0}, 20)
    assert [rows.takes(name, 10) for name in ('a', 'a', 'b')] == [False] * 3 and rows.takes('a', 20)
    assert [line.split('`')[1] for line in logged] == ['a', 'b']
    assert 'came for iteration 10 after 20' in logged[0]


def test_what_the_run_holds_is_not_sent_again(rows, logged):
    rows.held = 30
    assert [rows.takes('loss', step) for step in (10, 30, 31)] == [False, False, True]
    assert len(logged) == 1 and 'holds the iterations up to 30 already' in logged[0]


def test_the_note_says_how_far_the_run_is(rows, tmp_path):
    note = RunNote('id', step=15)
    rows.keep_note(note, str(tmp_path))
    for step, noted in ((10, 15), (20, 20), (20, 20), (30, 30)):
        rows.send({}, step)
        assert json.loads((tmp_path / RUN_FILE).read_text())['step'] == note.step == noted
