"""Small things that several layers need: errors meant for the user, and writing files safely."""

import contextlib
import os
import tempfile


class UserError(ValueError):
    """Something the user can mend: tools print it as one line, without a traceback, and exit with status 1."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that a setting points to is not there."""


@contextlib.contextmanager
def atomic_write(path):
    """Give a temporary path beside ``path`` that is renamed to it if the block ends well, and removed if not.

    So a reader never sees half a file, whether the writer was killed, failed or ran out of disk.

    Args:
        path (str | os.PathLike): The file to write; missing parent folders are made.

    Yields:
        str: A path in the same folder with the same extension.
    """
    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    stem, extension = os.path.splitext(name)
    handle, temporary = tempfile.mkstemp(prefix=f'.{stem}.', suffix=extension, dir=folder)
    os.close(handle)
    try:
        yield temporary
        # `mkstemp` makes files that only the owner may read; give what `open` would have given.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
