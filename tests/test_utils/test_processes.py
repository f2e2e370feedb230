import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from csrm_plugin.utils import UserError
from csrm_plugin.utils.processes import available_cores, run_unordered


def double(number):
    return 2 * number


def fail(number):
    if number == 3:
        raise UserError(f'task {number} is bad')
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(condition, seconds=120):
    """Wait until something is to be seen; the limit is only for a test that fails anyway."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(pid):
    """Whether a process is gone, or has ended and nobody has asked for its status."""
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in 'ZX'


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_every_task_is_done_once(workers):
    assert sorted(run_unordered(double, range(40), workers)) == [2 * number for number in range(40)]


def test_few_tasks_are_taken_ahead():
    taken = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield number

    results = run_unordered(double, tasks(), 2)
    next(results)
    assert len(taken) <= 8
    results.close()


@pytest.mark.parametrize('workers', [0, 2])
def test_an_error_of_a_task_comes_as_it_is(workers):
    with pytest.raises(UserError, match='task 3 is bad'):
        list(run_unordered(fail, range(10), workers))


def test_a_killed_worker_is_explained():
    with pytest.raises(UserError, match='2 worker processes was killed, most likely because the memory is full'):
        list(run_unordered(die, range(3), 2))


@pytest.mark.skipif(sys.platform != 'linux', reason='needs the parent-death signal of Linux')
def test_grandchildren_end_with_who_started_the_tool(tmp_path, root):
    # As torchrun does: a process between the pipeline and the tool, which is killed without a word.
    tool = (
        'import os, sys, time; from csrm_plugin.utils.cli import run_tool; import argparse\n'
        'from pathlib import Path\n'
        'def main(args):\n'
        '    Path(sys.argv[0] + ".up").write_text(f"{os.getpid()}.")\n'
        '    time.sleep(600)\n'
        'run_tool(main, argparse.ArgumentParser())'
    )
    (tmp_path / 'tool.py').write_text(tool)
    (tmp_path / 'between.py').write_text(
        f'import subprocess, sys\nsubprocess.run([sys.executable, {str(tmp_path / "tool.py")!r}])'
    )
    environment = {**os.environ, 'PYTHONPATH': str(root), 'CSRM_DIE_WITH_PARENT': '1'}
    between = subprocess.Popen([sys.executable, str(tmp_path / 'between.py')], env=environment)
    wait_for(lambda: (tmp_path / 'tool.py.up').exists() and (tmp_path / 'tool.py.up').read_text().endswith('.'))
    pid = (tmp_path / 'tool.py.up').read_text().rstrip('.')
    between.kill()
    between.wait()
    wait_for(lambda: ended(pid))


def test_negative_workers_are_refused():
    with pytest.raises(UserError, match='--workers must be at least 0'):
        list(run_unordered(double, [1], -1))
    assert available_cores() >= 1


def test_workers_use_torch_where_the_parent_had_several_threads_of_it(tmp_path):
    """As in a program that trains and then makes labels: a thread that the fork has not copied is never waited for."""
    (tmp_path / 'work.py').write_text(
        'import torch\n'
        'from csrm_plugin.utils.processes import run_unordered\n'
        'def total(value):\n'
        '    return float((torch.full((2000, 2000), value).exp() * 2).sum() > 0)\n'
        'if __name__ == "__main__":\n'
        '    torch.set_num_threads(2)\n'
        '    total(0.5)\n'
        '    print(sum(run_unordered(total, [0.5] * 4, workers=1)))\n'
    )
    environment = dict(os.environ, OMP_NUM_THREADS='2')
    done = subprocess.run(
        [sys.executable, str(tmp_path / 'work.py')], capture_output=True, text=True, timeout=100, env=environment
    )
    assert done.stdout.strip() == '4.0', done.stderr
