"""What files and folders hold: by content, so that a copy is the same and a change of one byte is not."""

import hashlib
import json
import os
import os.path as osp
import time

from csrm_plugin.config.provenance import file_hash
from csrm_plugin.inference.pseudo_labels.work import TILED
from csrm_plugin.utils import write_json

#: A file that changed so short a time ago (nanoseconds) may change again without a new time: it is not remembered.
_SETTLED = 2_000_000_000


class ContentMemory:
    """Remembers the contents of what was read, so that only what was touched since is read again.

    A file counts as untouched while its size, its times and its place on the disk (inode) are the same.

    Args:
        path (str, optional): JSON file that it is kept in, where paths are relative to its folder. None: only for as
            long as this object lives.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._known: dict = self._load()

    def _load(self) -> dict:
        if self.path is None or not osp.isfile(self.path):
            return {}
        try:
            with open(self.path) as file:
                content = json.load(file)
        except ValueError:  # it only saves time
            return {}
        return content if isinstance(content, dict) else {}

    def content(self, path: str) -> dict:
        """:func:`content_of` a file or folder, from memory where nothing was touched."""
        name = path if self.path is None else osp.relpath(path, osp.dirname(self.path))
        now, (stamp, changed) = time.time_ns(), _stamp(path)
        entry = self._known.get(name)
        if not entry or entry.get('stamp') != stamp:
            entry = dict(stamp=stamp, content=content_of(path))
            if now - changed > _SETTLED:
                self._known[name] = entry
        return entry['content']

    def save(self) -> None:
        """Write what is known of files that are there to the file, if there is one."""
        if self.path is not None:
            folder = osp.dirname(self.path)
            there = {name: entry for name, entry in self._known.items() if osp.exists(osp.join(folder, name))}
            write_json(self.path, there)


def content_of(path: str | os.PathLike) -> dict:
    """What a file or folder holds, so that a later call sees when it was changed.

    Neither the place of a file nor its times count. Of a folder the files directly in it count, with their names;
    temporary files (``.name``) do not.

    Args:
        path (str | os.PathLike): A file, or a folder of label maps or masks.

    Returns:
        dict: ``sha256`` (hex), with ``bytes`` of a file or the number of ``files`` of a folder.
    """
    if osp.isfile(path):
        return dict(bytes=osp.getsize(path), sha256=file_hash(path))
    digest, names = hashlib.sha256(), [entry.name for entry in _files(path)]
    for name in names:
        digest.update(f'{name}\0{file_hash(osp.join(path, name))}\n'.encode())
    return dict(files=len(names), sha256=digest.hexdigest())


def _files(folder) -> list[os.DirEntry]:
    """The files of a folder that count, by name: not those that say which pictures were cut, in the order of work."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if entry.is_file() and not entry.name.startswith('.') and entry.name != TILED),
            key=lambda entry: entry.name,
        )


def _stamp(path) -> tuple[str, int]:
    """What changes when a file or folder is touched, and the time of the last change in nanoseconds."""
    entries = {'': path} if osp.isfile(path) else {entry.name: entry.path for entry in _files(path)}
    found = [(name, os.stat(place)) for name, place in entries.items()]
    lines = [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in found]
    newest = max((max(s.st_mtime_ns, s.st_ctime_ns) for _, s in found), default=0)
    return hashlib.sha256(repr(lines).encode()).hexdigest(), newest
