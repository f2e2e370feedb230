import os
import signal
import sys
import threading
import time

import pytest
from rich.console import Console

from csrm_plugin.experiments import children
from csrm_plugin.experiments.children import Child, Step, end_all, job_environment, project_path, run_jobs, visible_gpus
from csrm_plugin.utils import UserError

#: Says that it is there, and goes on until it is ended; `stubborn` does not listen to SIGTERM.
ENDLESS = 'import time; print("up", flush=True)\nwhile True: time.sleep(0.01)'
STUBBORN = f'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{ENDLESS}'


def wait_for(condition, seconds=60):
    """Wait until something is to be seen; the limit is only for a test that would fail anyway."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def begin(tmp_path):
    """Start Python code as a child; what still runs at the end is killed."""
    started = []

    def call(code, environment=None):
        started.append(Child([sys.executable, '-c', code], str(tmp_path / f'{len(started)}.log'), environment))
        return started[-1]

    yield call
    for child in started:
        child.stop(at_once=True)
        child.wait()


@pytest.fixture
def step(tmp_path):
    """Make a step of Python code."""

    def make(job, name, code, **environment):
        return Step(job, name, [sys.executable, '-c', code], str(tmp_path / f'{job}_{name}.log'), environment)

    return make


def test_a_child_is_followed_to_its_end(begin):
    child = begin('print("one\\n\\n"); input(); import sys; sys.exit(3)')  # `input` finds no terminal
    assert child.poll() is None or child.status
    assert child.wait() == child.poll() == 1
    seconds = child.seconds
    assert 0 < seconds == child.seconds  # it stands still
    assert child.last_line() == 'EOFError: EOF when reading a line'
    assert child.failure() == f'EOFError: EOF when reading a line; its log is {child.log}'


def test_poll_does_not_wait_and_an_empty_log_has_no_last_line(begin):
    child = begin('import sys; print("error: it is broken"); sys.stdout.flush()\nwhile True: pass')
    assert child.poll() is None and child.failure() is None
    wait_for(lambda: child.last_line() != '')
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and 'it is broken' in child.failure()
    silent = begin('pass')
    assert silent.wait() == 0 and silent.last_line() == '' and silent.failure() is None


def test_memory_is_that_of_the_largest_process(begin):
    # The system counts what this process had when it started the other, so more than that is needed to be seen.
    with open('/proc/self/statm') as file:
        own = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 2**20
    block = f'block = b"x" * ({own + 100} * 2**20)'
    small = begin('pass')
    large = begin(f'import subprocess, sys; subprocess.run([sys.executable, "-c", {block!r}])')  # as torchrun's
    small.wait(), large.wait()
    assert 0 < small.peak_mib < own + 50
    assert own + 100 < large.peak_mib < own + 200


def test_environment(begin, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/there')
    monkeypatch.setenv('KEPT', 'yes')
    child = begin(
        'import os; print(*(os.environ[name] for name in ("PYTHONPATH", "KEPT", "CSRM_DIE_WITH_PARENT", "MINE")))',
        {**project_path('/project'), 'MINE': '7'},
    )
    child.wait()
    assert child.last_line() == '/project:/there yes 1 7'


def test_a_program_is_asked_before_it_is_killed(begin, monkeypatch):
    polite, stubborn = begin(ENDLESS), begin(STUBBORN)
    wait_for(lambda: polite.last_line() == stubborn.last_line() == 'up')
    polite.stop(), stubborn.stop()
    assert polite.wait() == -signal.SIGTERM
    stubborn.stop()
    assert stubborn.poll() is None  # the grace is not over
    monkeypatch.setattr(children, 'GRACE', -1.0)
    stubborn.stop()
    assert stubborn.wait() == -signal.SIGKILL
    stubborn.stop()  # of what has ended nothing happens


def test_all_are_ended(begin, monkeypatch):
    monkeypatch.setattr(children, 'GRACE', 0.1)
    both = [begin(ENDLESS), begin(STUBBORN)]
    wait_for(lambda: all(child.last_line() == 'up' for child in both))
    end_all(both)
    assert [child.status for child in both] == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_second_interrupt_kills(begin, monkeypatch):
    stubborn = begin(STUBBORN)
    wait_for(lambda: stubborn.last_line() == 'up')

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(children.time, 'sleep', interrupt)
    with pytest.raises(KeyboardInterrupt):
        end_all([stubborn])
    assert stubborn.wait() == -signal.SIGKILL


def test_steps_of_a_job_follow_each_other_and_what_it_does_between_is_done_between(step, tmp_path):
    said = []

    def job(name):
        yield step(name, 'first', f'open({str(tmp_path / name)!r}, "w").close()')
        assert (tmp_path / name).exists()
        said.append(f'{name} between')
        yield step(name, 'second', 'pass')
        said.append(f'{name} done')

    ended = run_jobs([job('a'), job('b')], on_end=lambda end: said.append(f'{end.step.job} {end.step.name}'))
    assert said == [f'{name} {what}' for name in 'ab' for what in ('first', 'between', 'second', 'done')]
    assert [end.step.name for end in ended] == ['first', 'second'] * 2
    assert all(end.seconds > 0 and end.peak_mib > 1 for end in ended)


def test_as_many_as_asked_for_run_at_once_each_in_a_place_of_its_own(step, tmp_path):
    # Each waits until it has seen the other two of its round, which come only if all run at the same time.
    code = (
        'import os, sys, time; place = os.environ["PLACE"]; name = sys.argv[1]\n'
        'open(f"{name}.{place}", "w").close(); first = int(name) // 3 * 3\n'
        'while not all(any(f.startswith(f"{n}.") for f in os.listdir()) for n in range(first, first + 3)):\n'
        '    time.sleep(0.01)'
    )
    steps = [
        step(str(i), 'x', f'import os, sys; os.chdir({str(tmp_path)!r}); sys.argv[1:] = ["{i}"]\n{code}')
        for i in range(6)
    ]
    run_jobs([[one] for one in steps], at_once=3, environment=lambda place: {'PLACE': str(place)})
    found = sorted(path.name for path in tmp_path.glob('[0-5].[0-9]'))
    assert [name.split('.')[0] for name in found] == list('012345')
    assert {name.split('.')[1] for name in found} == {'0', '1', '2'}
    assert sorted(name.split('.')[1] for name in found[:3]) == ['0', '1', '2']


def test_a_failure_names_itself_and_its_log_starts_nothing_and_ends_what_runs(step, tmp_path):
    began, log = [], tmp_path / 'b_train.log'

    def job(name, code):
        began.append(name)
        yield step(name, 'train', code)
        began.append(f'{name} later')

    endless = f'open({str(tmp_path / "pid")!r}, "w").write(str(__import__("os").getpid()))\n{ENDLESS}'
    fails = (
        f'import os, sys, time\nwhile not os.path.exists({str(tmp_path / "pid")!r}): time.sleep(0.01)\n'
        'print("error: the disk is full"); sys.exit(1)'
    )
    jobs = (job(name, code) for name, code in (('a', endless), ('b', fails), ('c', 'pass')))
    with pytest.raises(UserError) as error:
        run_jobs(jobs, at_once=2)
    assert str(error.value) == f'b failed at train: the disk is full; its log is {log}'
    assert began == ['a', 'b']
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'pid').read_text()), 0)


def test_an_error_between_two_steps_ends_what_runs(step, tmp_path):
    def bad():
        yield step('bad', 'x', 'pass')
        raise UserError('there is no checkpoint')

    child_log = tmp_path / 'long_x.log'
    with pytest.raises(UserError, match='there is no checkpoint'):
        run_jobs([[step('long', 'x', ENDLESS)], bad()], at_once=2)
    assert child_log.exists()


def test_an_interrupt_ends_what_runs_and_starts_nothing(step, tmp_path):
    log, began = tmp_path / 'a_x.log', []
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def jobs():
        for name in 'ab':
            began.append(name)
            yield [step(name, 'x', ENDLESS)]

    def interrupt():
        wait_for(lambda: log.exists() and 'up' in log.read_text())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs())
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert began == ['a']


def test_a_terminal_shows_the_last_line_of_each_log(step, tmp_path, monkeypatch):
    monkeypatch.setattr(children, 'SHOWN', 0.0)
    console = Console(force_terminal=True, file=open(tmp_path / 'shown', 'w'), width=200)  # noqa: SIM115
    code = 'import time; print("[/red] 3 of 7", flush=True); time.sleep(0.5)'
    run_jobs([[step('a', 'train', code)], [step('b', 'train', code)]], at_once=2, console=console)
    console.file.close()
    assert 'b train  [/red] 3 of 7' in (tmp_path / 'shown').read_text()


def test_environment_of_a_job():
    assert job_environment(1, 1, 1, ['0', '1'], 8, {}) == {}
    assert job_environment(2, 3, 1, ['0', '1'], 8, {}) == {'OMP_NUM_THREADS': '2', 'CUDA_VISIBLE_DEVICES': '0'}
    assert job_environment(1, 2, 2, ['0', '1', '2', '3'], 8, {'OMP_NUM_THREADS': '1'}) == {
        'CUDA_VISIBLE_DEVICES': '2,3'
    }
    assert job_environment(1, 2, 4, ['0', '1'], 2, {}) == {'OMP_NUM_THREADS': '1'}


def test_gpus_are_those_that_this_process_may_use(monkeypatch):
    for text, found in (('4, 6', ['4', '6']), ('', []), ('-1', []), ('GPU-ab', ['GPU-ab'])):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', text)
        assert visible_gpus() == found
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    monkeypatch.setattr(children.provenance, 'host', lambda: dict(gpus=['a', 'b']))
    assert visible_gpus() == ['0', '1']
