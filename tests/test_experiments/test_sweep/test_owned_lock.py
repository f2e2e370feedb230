import itertools
import json
import multiprocessing
import os
import random
import signal
import threading
import time

from csrm_plugin.experiments.sweep.owned_lock import OwnedLock
from csrm_plugin.experiments.sweep.ownership import identity

#: A holder that is known to be dead: this process began at another time.
DEAD = json.dumps({**identity(), 'start': 1, 'id': 'dead'})


def take_and_wait(journal, ready):
    OwnedLock(journal).acquire()
    ready.set()
    time.sleep(600)


def holder(journal):
    """A process that holds the lock of a journal."""
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    process = context.Process(target=take_and_wait, args=(journal, ready))
    process.start()
    assert ready.wait(60)
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
    waiting.join(60)
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
    assert acquired.wait(60)


def test_the_lock_of_another_machine_is_free_after_a_while(tmp_path):
    near, far = (str(tmp_path / name) for name in ('near.log', 'far.log'))
    for journal in (near, far):
        os.symlink(json.dumps({**identity(), 'machine': 'far'}), f'{journal}.lock')
    begin = time.monotonic()
    patient, acquired = (acquire_in_thread(OwnedLock(journal, grace)) for journal, grace in ((near, 600), (far, 0.5)))
    assert acquired.wait(60) and time.monotonic() - begin > 0.4
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


class Interleaved:
    """Calls something between two calls that a lock makes to the file system.

    Args:
        monkeypatch (pytest.MonkeyPatch): Takes it back.
    """

    def __init__(self, monkeypatch):
        self.actions, self.calls, self.active = {}, 0, False
        for name in ('symlink', 'readlink', 'unlink', 'rename'):
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, function):
        def call(*args, **kwargs):
            if self.active:
                self.active = False  # what comes in between is not counted
                for action in self.actions.get(self.calls, ()):
                    action()
                self.calls += 1
                self.active = True
            return function(*args, **kwargs)

        return call

    def run(self, function, actions):
        """Call ``function()`` with actions before its n-th call to the file system; gives how many calls it made."""
        self.actions, self.calls, self.active = actions, 0, True
        try:
            function()
        finally:
            self.active = False
        return self.calls


def test_whoever_comes_between_only_one_has_the_lock(tmp_path, monkeypatch):
    # One takes the lock of a dead process away, however slowly; meanwhile another one does the same and gets the lock,
    # and a third one asks for it.
    between, steps = Interleaved(monkeypatch), 12
    tried = 0
    for first, second in itertools.combinations_with_replacement(range(steps), 2):
        journal = str(tmp_path / f'{first}_{second}.log')
        slow, quick, third = (OwnedLock(journal) for _ in range(3))
        os.symlink(DEAD, slow.path)
        holders = []

        def take(lock=third, holders=holders):
            if lock._take(f'{identity()} third'):
                holders.append('third')

        def acquire(lock=quick, holders=holders):
            lock._break(DEAD)
            if lock._take('quick'):
                holders.append('quick')

        actions = {first: [acquire]}
        actions.setdefault(second, []).append(take)
        calls = between.run(lambda lock=slow: lock._break(DEAD), actions)
        tried += second < calls
        assert len(holders) <= 1, f'{holders} before calls {first} and {second}'
        if holders:
            assert os.readlink(slow.path) == ('quick' if holders == ['quick'] else f'{identity()} third')
    assert tried > 5


def test_a_slow_release_does_not_take_the_lock_of_the_next(tmp_path, monkeypatch):
    # A holder on another machine stood still until it was taken for dead; it goes on while that is being done.
    between = Interleaved(monkeypatch)
    for step in range(12):
        slow, quick = (OwnedLock(str(tmp_path / f'{step}.log')) for _ in range(2))
        slow.acquire()
        taken = []

        def take(slow=slow, quick=quick, taken=taken):
            quick._break(slow._token)
            taken.append(quick._take('quick'))

        between.run(slow.release, {step: [take]})
        assert taken in ([True], [False], []) and (True not in taken or os.readlink(quick.path) == 'quick')


def test_a_right_to_remove_that_a_killed_process_left_stops_nobody(tmp_path):
    journal = str(tmp_path / 'journal.log')

    def doomed():
        lock, unlink = OwnedLock(journal), os.unlink
        os.unlink = lambda path: os.kill(os.getpid(), signal.SIGKILL) if path == lock.path else unlink(path)
        os.symlink(DEAD, lock.path)
        lock._break(DEAD)

    process = multiprocessing.get_context('fork').Process(target=doomed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 2
    lock = OwnedLock(journal)
    assert acquire_in_thread(lock).wait(60)
    lock.release()
    assert os.listdir(tmp_path) == []


def hammer(folder, seed, rounds):
    """Take the lock again and again, and let others die with it; note if another one is inside too."""
    draw, journal = random.Random(seed), f'{folder}/journal.log'
    for _ in range(rounds):
        if draw.random() < 0.3:
            child = os.fork()
            if child == 0:
                OwnedLock(journal).acquire()
                os._exit(0)
            os.waitpid(child, 0)
            continue
        lock = OwnedLock(journal)
        lock.acquire()
        try:
            os.close(os.open(f'{folder}/inside', os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            open(f'{folder}/two at once', 'w').close()
        else:
            os.unlink(f'{folder}/inside')
            with open(f'{folder}/times {seed}', 'a') as file:
                file.write('x')
        lock.release()


def test_many_processes_that_die_with_the_lock(tmp_path):
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=hammer, args=(str(tmp_path), seed, 15)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert not (tmp_path / 'two at once').exists()
    assert sum(len(path.read_text()) for path in tmp_path.glob('times *')) > 30
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith('times ')}
    assert left <= {'journal.log.lock'}  # of the last one that died with it
