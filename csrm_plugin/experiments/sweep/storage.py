"""Where a study is kept: a journal in the sweep's folder, or any database that Optuna can open."""

import contextlib
import fcntl
import json
import os
import os.path as osp
import re
import time
import uuid

from csrm_plugin.experiments.sweep.ownership import identity, is_alive
from csrm_plugin.utils import UserError

JOURNAL = 'journal.log'


class OwnedLock:
    """Lock of a journal that a killed process cannot keep.

    It is a symbolic link whose target says who holds it: making one is atomic, on NFS too, where ``flock`` may be local
    to a machine. A holder that died on this machine is found out at once, one on another machine after ``grace``
    seconds without a change. (Optuna's own locks are judged by time alone: up to 30 s after each kill, and for ever
    where :class:`~optuna.storages.journal.JournalFileSymlinkLock` has a relative path.)

    Args:
        journal (str): The journal; what a kill left of its last line is cut off.
        grace (float): Seconds.
    """

    def __init__(self, journal, grace=60.0) -> None:
        self.journal, self.path, self.grace = journal, f'{journal}.lock', grace
        self._token = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        token = json.dumps({**identity(), 'id': uuid.uuid4().hex})
        seen, since, pause = None, time.monotonic(), 0.001
        while not self._take(token):
            holder = self._holder()
            if holder != seen:
                seen, since, pause = holder, time.monotonic(), 0.001
            if holder is not None and (_is_dead(holder) or time.monotonic() - since > self.grace):
                self._break(holder)
                continue
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        self._token = token
        _cut_last_line(self.journal)
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens if another process took it for abandoned."""
        if self._holder() == self._token:
            os.unlink(self.path)
        self._token = None

    def _take(self, token) -> bool:
        try:
            os.symlink(token, self.path)
        except FileExistsError:
            return self._holder() == token  # a server of NFS may answer a repeated request
        return True

    def _holder(self) -> str | None:
        try:
            return os.readlink(self.path)
        except OSError:
            return None

    def _break(self, holder) -> None:
        """Take away the lock of a dead process."""
        aside = f'{self.path}.{uuid.uuid4().hex}'
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        found = os.readlink(aside)
        if found != holder:  # another one was quicker, and holds it now
            with contextlib.suppress(FileExistsError):
                os.symlink(found, self.path)
        os.unlink(aside)


def open_storage(folder, url=None):
    """Open the storage of a sweep.

    Args:
        folder (str): The sweep's folder, which exists.
        url (str, optional): A database, as SQLAlchemy has it; by default a journal in the folder.

    Returns:
        optuna.storages.BaseStorage: The storage.

    Raises:
        UserError: If it cannot be opened.
    """
    from optuna import storages

    try:
        if url is None:
            from optuna.storages.journal import JournalFileBackend

            journal = osp.abspath(osp.join(folder, JOURNAL))
            return storages.JournalStorage(JournalFileBackend(journal, OwnedLock(journal)))
        with file_lock(lock_path(folder, url)):  # two processes must not make the same tables
            if url.startswith('sqlite'):
                return storages.RDBStorage(url, engine_kwargs={'connect_args': {'timeout': 60}})
            return storages.get_storage(url)
    except OSError:
        raise
    except Exception as error:
        where = osp.join(folder, JOURNAL) if url is None else f'--storage {hide_password(url)}'
        text = ' '.join(str(error).split())[:200]
        raise UserError(f'{where} cannot be opened: {type(error).__name__}: {text}') from error


def lock_path(folder, url=None) -> str:
    """File that processes lock while they change who does what: beside a file of SQLite, else in the folder."""
    match = re.match(r'sqlite(?:\+\w+)?:///([^?]+)', url or '')
    return f'{match.group(1)}.lock' if match else osp.join(folder, '.lock')


@contextlib.contextmanager
def file_lock(path):
    """Hold a lock that ends with the process; where the file system has none, go on without.

    A journal and a database server stay right without it, but may queue a trial twice and drop the second one.
    SQLite, which lies on a local disk, needs it.
    """
    with open(path, 'a') as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hide_password(url) -> str:
    """The URL of a database without the password."""
    return re.sub(r'(://[^:/@]*):[^@]*@', r'\1:***@', url)


def _is_dead(holder) -> bool:
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
