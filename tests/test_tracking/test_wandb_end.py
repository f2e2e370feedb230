"""The W&B backend, with the real client: how runs end."""

import json
import signal
import subprocess
import sys

import pytest

from csrm_plugin.tracking import wandb_backend

pytest.importorskip('wandb')


def test_a_run_that_was_left_open_is_ended_as_failed(online, server, start, train, steps):
    train(start('first'), 10, 20)
    second = start('second')
    train(second, 30, 30)
    second.close()
    assert [(run['name'], run['exit_code'], steps(run)) for run in server.runs.values()] == [
        ('first', 1, [10, 20]),
        ('second', 0, [30]),
    ]


def test_a_backend_whose_run_another_one_ended_is_off(online, server, logged, start, train, steps):
    first, second = start('first'), start('second')
    train(first, 10, 10)
    train(second, 30, 30)
    train(first, 20, 20)
    first.close()
    train(second, 40, 40)
    second.close()
    assert first.experiment is None and not [line for line in logged if 'not kept' in line]
    assert [(run['exit_code'], steps(run)) for run in server.runs.values()] == [(1, [10]), (0, [30, 40])]


def test_a_server_that_went_away_holds_nothing_up(online, server, logged, monkeypatch, start, train):
    backend = start(artifact='last')
    train(backend, 10, 10)
    backend.add_curve('curve', 'x', [1, 2], 'y', [3, 4], step=10)
    monkeypatch.setattr(wandb_backend, 'can_reach', lambda url: False)
    finish = backend._run.run.finish

    def late(**arguments):
        finish(**arguments)
        raise TimeoutError('Timed out finishing run.')

    monkeypatch.setattr(backend._run.run, 'finish', late)
    backend.close()
    assert not server.artifacts
    assert any('cannot be reached any more' in line for line in logged)
    line = next(line for line in logged if 'not everything was sent (Timed out finishing run)' in line)
    assert 'wandb sync --include-online run/20260101_000000/wandb/run-' in line


#: One process for each way to end, forked from one that has imported what takes long.
SCRIPT = """
import json, os, signal, sys, time
from mmengine.config import Config
from csrm_plugin.tracking import WSSSWandbBackend

def child(name):
    backend = WSSSWandbBackend(f'{name}/time/vis_data')
    backend.add_config(Config(dict(work_dir=name)))
    for step in (1, 2, 3):
        backend.add_scalars(dict(loss=1.0, iter=step), step=step)
    if name == 'exit':
        sys.exit(1)
    if name == 'error':
        raise RuntimeError('the loss is NaN')
    open('ready', 'w').close()
    time.sleep(60)

children = {}
for name in ('exit', 'error', 'term'):
    children[name] = os.fork()
    if children[name] == 0:
        child(name)
while not os.path.exists('ready'):
    time.sleep(0.05)
os.kill(children['term'], signal.SIGTERM)
codes = {name: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for name, pid in children.items()}
with open('codes.json', 'w') as file:
    json.dump(codes, file)
"""


def test_crash_and_sigterm_mark_the_run_as_failed(online, server, root, monkeypatch, steps):
    monkeypatch.setenv('PYTHONPATH', str(root))
    result = subprocess.run([sys.executable, '-c', SCRIPT], capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    codes = json.loads((online / 'codes.json').read_text())
    assert codes == {'exit': 1, 'error': 1, 'term': 128 + signal.SIGTERM}
    states = {run['name']: (run['exit_code'], steps(run)) for run in server.runs.values()}
    assert states == {name: (code, [1, 2, 3]) for name, code in codes.items()}
