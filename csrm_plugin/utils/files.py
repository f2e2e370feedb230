"""Writing files so that a reader never sees half of one."""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[str]:
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


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write ``content`` as strict JSON, by renaming a finished file: NaN becomes null, arrays become lists."""
    with atomic_write(path) as temporary, open(temporary, 'w') as file:
        json.dump(_plain(content), file, indent=2, allow_nan=False)
        file.write('\n')


def _plain(value: object) -> object:
    """Turn arrays, tensors and numbers of NumPy into what JSON knows."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
