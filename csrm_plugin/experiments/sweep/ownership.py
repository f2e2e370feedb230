"""Who runs a trial, and whether that process is still alive.

On the same machine (boot and namespace of process numbers) that is known at once. Another machine shows itself by a
beat, a time that it writes every :data:`BEAT` seconds.
"""

import os
import socket
import time
from collections.abc import Callable, Hashable, Mapping

#: Seconds between two beats.
BEAT = 15.0
#: Seconds without a beat after which a process on another machine is taken for dead.
STALE = 120.0
#: Seconds that a beat is watched before it is judged by its own clock, which may be wrong.
WATCH = 2 * BEAT


def identity() -> dict:
    """This process: ``machine``, ``pid``, ``start`` (ticks since boot, as None where the system has none), ``host``."""
    return dict(machine=_machine(), pid=os.getpid(), start=_start(os.getpid()), host=socket.gethostname())


def is_alive(owner: Mapping | None) -> bool | None:
    """Whether the process of :func:`identity` is there; None if it cannot be told from here."""
    if not isinstance(owner, dict) or owner.get('machine') is None or owner['machine'] != _machine():
        return None
    start = _start(owner['pid'])
    return start is not None and start == owner['start']


class Watcher:
    """Judges who is dead.

    Args:
        clock (Callable): Monotonic seconds.
        wall (Callable): Seconds since 1970, comparable between machines but for wrong clocks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.clock, self.wall = clock, wall
        self._seen: dict = {}

    def is_dead(self, name: Hashable, owner: Mapping | None, beat: float | None) -> bool:
        """Whether the process behind a trial is dead.

        Args:
            name (Hashable): Of the trial; it is remembered.
            owner (Mapping, optional): From :func:`identity`; None where the process died before it could say.
            beat (float, optional): Wall time of its last beat.
        """
        alive = is_alive(owner)
        if alive is not None:
            return not alive
        now = self.clock()
        if self._seen.get(name, (None,))[0] != (owner, beat):
            self._seen[name] = ((owner, beat), now)
        watched = now - self._seen[name][1]
        old = beat is not None and self.wall() - beat > STALE
        return watched > STALE or (old and watched > WATCH)


def _machine() -> str | None:
    """Boot and namespace of process numbers; None where the system does not say."""
    try:
        with open('/proc/sys/kernel/random/boot_id') as file:
            return f'{file.read().strip()} {os.readlink("/proc/self/ns/pid")}'
    except OSError:
        return None


def _start(pid: int) -> int | None:
    """When a process began, in ticks since boot; None if it is not there or dead but not yet collected."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            fields = file.read().rpartition(b')')[2].split()
    except OSError:
        return None
    return None if fields[0] in (b'Z', b'X') else int(fields[19])
