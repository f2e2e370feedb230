import os
import subprocess
import sys

from csrm_plugin.experiments.sweep import ownership
from csrm_plugin.experiments.sweep.ownership import Watcher, identity, is_alive


def test_a_process_of_this_machine_is_known_to_live_or_not():
    me = identity()
    assert me['pid'] == os.getpid() and is_alive(me) is True
    assert is_alive({**me, 'start': me['start'] + 1}) is False  # the number was given again
    assert is_alive({**me, 'machine': 'another'}) is None
    assert is_alive(None) is None
    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    start = ownership._start(child.pid)
    owner = {**me, 'pid': child.pid, 'start': start}
    assert is_alive(owner) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(owner) is False  # dead, not yet collected
    child.communicate()
    assert is_alive(owner) is False


class Clocks:
    """A watcher on another machine, whose clocks go as told."""

    def __init__(self):
        self.now = 0.0
        self.watcher = Watcher(clock=lambda: self.now, wall=lambda: 1000.0 + self.now)

    def dead(self, beat, after):
        self.now += after
        return self.watcher.is_dead(7, dict(machine='far', pid=1, start=2), beat)


def test_a_machine_is_dead_once_its_beat_is_old_and_was_watched():
    clocks = Clocks()
    assert not clocks.dead(800.0, 0)  # 200 s old, but its clock may be wrong
    assert not clocks.dead(800.0, ownership.WATCH - 1)
    assert clocks.dead(800.0, 2)


def test_a_beat_that_changes_is_alive_whatever_its_clock_says():
    clocks = Clocks()
    assert not any(clocks.dead(10.0 + 15 * i, ownership.BEAT) for i in range(20))
    ahead = Clocks()
    assert not ahead.dead(99999.0, 0)
    assert not ahead.dead(99999.0, ownership.STALE - 1)
    assert ahead.dead(99999.0, 2)


def test_a_fresh_beat_is_waited_for():
    clocks = Clocks()
    assert not clocks.dead(1000.0, 0)
    assert not clocks.dead(1000.0, ownership.STALE - 1)
    assert clocks.dead(1000.0, 2)


def test_here_it_is_known_at_once():
    watcher = Watcher()
    assert not watcher.is_dead(1, identity(), 0.0)
    assert watcher.is_dead(1, {**identity(), 'start': 1}, 1e12)
