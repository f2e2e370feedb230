"""The lock of a journal: it works where ``flock`` does not, and a killed process cannot keep it."""

import contextlib
import hashlib
import json
import os
import os.path as osp
import time
import uuid

from csrm_plugin.experiments.sweep.ownership import identity, is_alive


class OwnedLock:
    """Lock of a journal that a killed process cannot keep.

    It is a symbolic link whose target says who holds it: making one is atomic, on NFS too, where ``flock`` may be local
    to a machine. A holder that died on this machine is found out at once, one on another machine after ``grace``
    seconds without a change. (Optuna's own locks are judged by time alone: up to 30 s after each kill, and for ever
    where :class:`~optuna.storages.journal.JournalFileSymlinkLock` has a relative path.)

    No file system removes a link only if it still has a certain target, and whoever looks first and removes then may
    remove that of the next holder. So the right to remove the link of one holder is a link of its own, named after that
    holder: only who could make it may remove the other, holders that give their lock back too. Between its look and its
    removal nobody else can take the link away, so none can have come in its place. Rights that a killed process left
    are removed in the same way.

    Args:
        journal (str): The journal; what a kill left of its last line is cut off.
        grace (float): Seconds.
    """

    def __init__(self, journal: str, grace: float = 60.0) -> None:
        self.journal, self.path, self.grace = journal, f'{journal}.lock', grace
        self._token: str | None = None
        #: When each holder was first seen, in monotonic seconds.
        self._seen: dict[str, float] = {}

    def acquire(self) -> bool:
        """Wait for the lock; it is there then."""
        token, seen, pause = _new_token(), None, 0.001
        while not self._take(token):
            holder = _target(self.path)
            if holder != seen:
                seen, pause = holder, 0.001
            if holder is not None and self._is_abandoned(holder):
                self._break(holder)
                if _target(self.path) != holder:
                    continue
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        self._token = token
        self._seen.clear()
        _cut_last_line(self.journal)
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens if another process took it for abandoned."""
        while self._token is not None and _target(self.path) == self._token:
            self._break(self._token)
            if _target(self.path) == self._token:
                time.sleep(0.001)  # who takes it for abandoned is about to remove it
        self._token = None
        self._seen.clear()

    def _take(self, token: str) -> bool:
        return _link(token, self.path)

    def _break(self, holder: str) -> None:
        """Take away the lock of a holder, and of no other; nothing happens while another process does the same."""
        self._remove(self.path, holder)

    def _remove(self, path: str, holder: str) -> None:
        """Remove a link if it has this target; see the class."""
        right, token = f'{path}.{hashlib.sha256(holder.encode()).hexdigest()[:16]}', _new_token()
        if not _link(token, right):
            other = _target(right)
            if other is not None and self._is_abandoned(other):
                self._remove(right, other)
            return
        try:
            if _target(path) == holder:
                os.unlink(path)
        finally:
            if _target(right) == token:
                os.unlink(right)

    def _is_abandoned(self, holder: str) -> bool:
        """Whether a holder is dead, or has been seen for longer than ``grace``."""
        now = time.monotonic()
        return _is_dead(holder) or now - self._seen.setdefault(holder, now) > self.grace


def _new_token() -> str:
    """Who asks: this process, and a number that comes once."""
    return json.dumps({**identity(), 'id': uuid.uuid4().hex})


def _link(token: str, path: str) -> bool:
    """Make a link, unless there is one."""
    try:
        os.symlink(token, path)
    except FileExistsError:
        return _target(path) == token  # a server of NFS may answer a repeated request
    return True


def _target(path: str) -> str | None:
    """The target of a link; None where there is none."""
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return None


def _is_dead(holder: str) -> bool:
    try:
        return is_alive(json.loads(holder)) is False
    except ValueError:
        return False


def _cut_last_line(journal) -> None:
    """Cut off a line without an end, which makes a journal unreadable once another one follows."""
    if not osp.isfile(journal) or osp.getsize(journal) == 0:
        return
    with open(journal, 'rb+') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 1)
        if file.read(1) == b'\n':
            return
        end = size
        while end > 0:
            start = max(end - 4096, 0)
            file.seek(start)
            found = file.read(end - start).rfind(b'\n')
            if found >= 0:
                file.truncate(start + found + 1)
                return
            end = start
        file.truncate(0)
