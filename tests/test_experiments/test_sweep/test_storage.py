import json
import multiprocessing
import os
import signal
import threading
import time

import optuna
import pytest

from csrm_plugin.experiments.sweep import storage
from csrm_plugin.experiments.sweep.ownership import identity
from csrm_plugin.experiments.sweep.storage import OwnedLock, hide_password, lock_path, open_storage
from csrm_plugin.utils import UserError


def take_and_wait(journal, ready):
    OwnedLock(journal).acquire()
    ready.set()
    time.sleep(60)


def holder(journal):
    """A process that holds the lock of a journal."""
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    process = context.Process(target=take_and_wait, args=(journal, ready))
    process.start()
    assert ready.wait(10)
    return process


def acquire_in_thread(lock):
    """An event that is set once the lock is there; the thread waits for it as long as the test process lives."""
    done = threading.Event()
    threading.Thread(target=lambda: (lock.acquire(), done.set()), daemon=True).start()
    return done


def test_a_lock_is_waited_for_and_given_back(tmp_path):
    journal = str(tmp_path / 'journal.log')
    first, second = OwnedLock(journal), OwnedLock(journal)
    first.acquire()
    waiting = threading.Thread(target=second.acquire, daemon=True)
    waiting.start()
    time.sleep(0.2)
    assert waiting.is_alive()
    first.release()
    waiting.join(5)
    assert not waiting.is_alive()
    second.release()
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path):
    journal = str(tmp_path / 'journal.log')
    process = holder(journal)
    acquired = acquire_in_thread(OwnedLock(journal))
    assert not acquired.wait(0.3)  # it lives
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert acquired.wait(5)


def test_the_lock_of_another_machine_is_free_after_a_while(tmp_path):
    near, far = (str(tmp_path / name) for name in ('near.log', 'far.log'))
    for journal in (near, far):
        os.symlink(json.dumps({**identity(), 'machine': 'far'}), f'{journal}.lock')
    begin = time.monotonic()
    patient, acquired = (acquire_in_thread(OwnedLock(journal, grace)) for journal, grace in ((near, 60), (far, 0.5)))
    assert acquired.wait(5) and time.monotonic() - begin > 0.4
    assert not patient.is_set()


def test_a_lock_that_was_taken_away_is_not_taken_from_the_next(tmp_path):
    journal = str(tmp_path / 'journal.log')
    slow, quick = OwnedLock(journal), OwnedLock(journal)
    slow.acquire()
    os.unlink(slow.path)
    quick.acquire()
    slow.release()
    assert os.path.islink(quick.path)
    # Whoever judged the old holder dead finds the new one, and gives the lock back.
    quick._break('the old holder')
    assert os.readlink(quick.path) == quick._token


@pytest.mark.parametrize('rest', [b'{"op_code": 5, "tri', b'x' * 10000])
def test_half_a_line_is_cut_off(tmp_path, rest):
    study = optuna.create_study(storage=open_storage(str(tmp_path)), study_name='s')
    study.tell(study.ask(), 1.0)
    journal = tmp_path / 'journal.log'
    whole = journal.read_bytes()
    journal.write_bytes(whole + rest)
    again = optuna.load_study(study_name='s', storage=open_storage(str(tmp_path)))
    again.tell(again.ask(), 2.0)
    last = optuna.load_study(study_name='s', storage=open_storage(str(tmp_path)))
    assert [trial.value for trial in last.trials] == [1.0, 2.0]
    assert journal.read_bytes().startswith(whole) and rest not in journal.read_bytes()
    journal.write_bytes(b'no end')
    storage._cut_last_line(str(journal))
    assert journal.read_bytes() == b''


def write_trials(folder):
    study = optuna.load_study(study_name='s', storage=open_storage(folder))
    for _ in range(10):
        study.tell(study.ask(), 1.0)


def test_processes_write_one_journal(tmp_path):
    optuna.create_study(storage=open_storage(str(tmp_path)), study_name='s')
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=write_trials, args=(str(tmp_path),)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    study = optuna.load_study(study_name='s', storage=open_storage(str(tmp_path)))
    assert sorted(trial.number for trial in study.trials) == list(range(30))
    assert os.listdir(tmp_path) == ['journal.log']


def test_locks_and_passwords():
    assert lock_path('f', 'sqlite:///a/b.db') == 'a/b.db.lock' and lock_path('f') == 'f/.lock'
    assert lock_path('f', 'postgresql://u:p@h/db') == 'f/.lock'
    assert hide_password('postgresql://u:secret@h:1/db') == 'postgresql://u:***@h:1/db'


def test_a_database_that_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match='cannot be opened'):
        open_storage(str(tmp_path), 'nonsense')
    with pytest.raises(UserError, match='cannot be opened') as error:
        open_storage(str(tmp_path), 'nodialect://me:secret@host/db')
    assert 'secret' not in str(error.value)
