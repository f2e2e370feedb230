import os
import signal

import pytest

from csrm_plugin.processes import available_cores, run_unordered
from csrm_plugin.utils import UserError


def double(number):
    return 2 * number


def fail(number):
    if number == 3:
        raise UserError(f'task {number} is bad')
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


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


def test_negative_workers_are_refused():
    with pytest.raises(UserError, match='--workers must be at least 0'):
        list(run_unordered(double, [1], -1))
    assert available_cores() >= 1
