"""Where a study is kept: a journal in the sweep's folder, or any database that Optuna can open."""

import contextlib
import fcntl
import os.path as osp
import re
from collections.abc import Iterator

from optuna import storages
from optuna.storages.journal import JournalFileBackend

from csrm_plugin.experiments.sweep.owned_lock import OwnedLock
from csrm_plugin.utils import UserError

JOURNAL = 'journal.log'


def open_storage(folder: str, url: str | None = None) -> storages.BaseStorage:
    """Open the storage of a sweep.

    Args:
        folder (str): The sweep's folder, which exists.
        url (str, optional): A database, as SQLAlchemy has it; by default a journal in the folder.

    Returns:
        optuna.storages.BaseStorage: The storage.

    Raises:
        UserError: If it cannot be opened.
    """
    try:
        if url is None:
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


def lock_path(folder: str, url: str | None = None) -> str:
    """File that processes lock while they change who does what: beside a file of SQLite, else in the folder."""
    match = re.match(r'sqlite(?:\+\w+)?:///([^?]+)', url or '')
    return f'{match.group(1)}.lock' if match else osp.join(folder, '.lock')


@contextlib.contextmanager
def file_lock(path: str) -> Iterator[None]:
    """Hold a lock that ends with the process; where the file system has none, go on without.

    A journal and a database server stay right without it, but may queue a trial twice and drop the second one.
    SQLite, which lies on a local disk, needs it.
    """
    with open(path, 'a') as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hide_password(url: str) -> str:
    """The URL of a database without the password."""
    return re.sub(r'(://[^:/@]*):[^@]*@', r'\1:***@', url)
