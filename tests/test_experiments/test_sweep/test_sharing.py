"""Real processes of tools/sweep.py on one study."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from csrm_plugin.experiments.sweep import runner

PARAMETERS = {'model.x': {'values': [1, 2, 3]}, 'model.y': {'values': [1, 2]}}
CELLS = sorted(f'x={x} y={y} mode=0' for x in (1, 2, 3) for y in (1, 2))


@pytest.fixture
def start(toy, root):
    """Start tools/sweep.py on the toy project; what still runs at the end is killed."""
    children = []
    path = os.pathsep.join(filter(None, [str(root), os.environ.get('PYTHONPATH')]))

    def call(*arguments, sleep):
        env = {**os.environ, 'PYTHONPATH': path, 'TOY_SLEEP': str(sleep), 'OMP_NUM_THREADS': '1'}
        command = [sys.executable, str(root / 'tools' / 'sweep.py'), toy.write(PARAMETERS)]
        children.append(
            subprocess.Popen(
                [*command, '--work-dir', 'sweep', *arguments],
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        return children[-1]

    yield call
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


def wait_for(condition, seconds=180):
    """Wait until something is to be seen; the limit is only for a test that fails anyway."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize('storage', [None, 'sqlite:///study.db'])
def test_two_processes_share_a_grid(toy, start, monkeypatch, storage):
    monkeypatch.setenv('TOY_SLEEP', '0.1')
    other = start(*(['--storage', storage] if storage else []), sleep=0.5)
    wait_for(lambda: toy.began())
    content = toy.run(PARAMETERS, storage=storage)
    printed = other.communicate(timeout=180)[0]
    assert other.returncode == 0, printed
    assert sorted(toy.began()) == sorted(toy.ended()) == CELLS
    took = [text.count(' starts: ') for text in (printed, toy.printed)]
    assert sum(took) == 6 and min(took) >= 1
    assert '6 of 6 done' in printed and '6 of 6 done' in toy.printed
    assert [(trial['number'], trial['state']) for trial in content['trials']] == [(i, 'complete') for i in range(6)]


def test_a_killed_sweep_goes_on_and_repeats_nothing_that_was_finished(toy, start):
    first = start('--jobs', '2', sleep=0.5)
    wait_for(lambda: len(toy.ended()) >= 2 and len(toy.began()) >= 4)
    first.kill()
    first.wait()
    pids = [json.loads(path.read_text())['pid'] for path in toy.folder.glob('sweep/trial_*/started.json')]
    wait_for(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in pids))  # the trainings die with it
    ended = toy.ended()
    content = toy.run(PARAMETERS, jobs=2)
    again = len(toy.began()) - 6  # what was begun twice
    assert sorted(toy.ended()) == CELLS and toy.ended()[: len(ended)] == ended  # each to its end, once
    assert 1 <= again <= 2 and toy.printed.count('failed: its process was killed') == again
    complete = [trial for trial in content['trials'] if trial['state'] == 'complete']
    killed = [trial for trial in content['trials'] if trial['state'] == 'failed']
    assert len(complete) == 6 and [trial['reason'] for trial in killed] == ['its process was killed'] * again
    assert sorted(f'x={t["params"]["model.x"]} y={t["params"]["model.y"]} mode=0' for t in complete) == CELLS
    assert [trial['attempt'] for trial in complete].count(2) == again
    assert len({trial['folder'] for trial in content['trials']}) == 6 + again


def test_a_process_takes_over_from_one_that_is_killed_beside_it(toy, start, monkeypatch):
    doomed = start('--trials', '2', '--jobs', '2', sleep=600)
    wait_for(lambda: len(toy.began()) == 2)
    event = runner.Display.event

    def kill_once_it_is_waited_for(display, text, style=None):
        event(display, text, style)
        if text.startswith('waiting for other processes'):
            doomed.kill()

    monkeypatch.setattr(runner.Display, 'event', kill_once_it_is_waited_for)
    content = toy.run(PARAMETERS, trials=2)
    assert 'waiting for other processes: trial 0, 1' in toy.printed and '2 of 2 done' in toy.printed
    assert [trial['state'] for trial in content['trials']] == ['failed', 'failed', 'complete', 'complete']
    assert len(toy.ended()) == 2


def test_ctrl_c_exits_with_130_and_one_line(toy, start):
    child = start(sleep=600)
    wait_for(lambda: len(toy.began()) == 1)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: the training gets it too
    printed = child.communicate(timeout=180)[0]
    assert child.returncode == 130 and printed.splitlines()[-1] == 'error: interrupted'
    assert [trial['state'] for trial in toy.result()['trials']][-1] == 'waiting' and not toy.ended()
