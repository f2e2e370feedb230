"""What identifies the data of a split: ids, sizes or contents of the files, labels."""

import hashlib
import os
import os.path as osp
from collections.abc import Sequence

from csrm_plugin.config.provenance import file_hash
from csrm_plugin.datasets import voc_layout
from csrm_plugin.utils import MissingFileError


def data_fingerprint(
    data_root: str,
    split_file: str,
    folders: Sequence[tuple[str, str]] = (('JPEGImages', '.jpg'),),
    label_file: str | None = None,
    full: bool = False,
) -> dict:
    """What identifies the data of a split.

    Args:
        data_root (str): The data root.
        split_file (str): List of ids, relative to the data root or a path.
        folders (Sequence[tuple[str, str]]): Folder below the data root and ending of its files; each id has one.
        label_file (str, optional): File of image-level labels, relative to the data root or a path.
        full (bool): Whether to read the files. By default their sizes stand for their contents.

    Returns:
        dict: ``pictures`` (int) and ``hash`` (hex), which depends on the ids and their order, on the sizes or
        contents of their files and on the content of the label file, but not on where the data is.

    Raises:
        MissingFileError: If the list, the label file or a file of an id is not there.
    """
    ids = voc_layout.read_split(_below(data_root, split_file))
    digest = hashlib.sha256()
    for image_id in ids:
        digest.update(f'{image_id}\n'.encode())
    for folder, suffix in folders:
        sizes = _file_sizes(osp.join(data_root, folder), ids, suffix)
        digest.update(f'\0{folder}\0{suffix}\n'.encode())
        for image_id in ids:
            name = image_id + suffix
            what = file_hash(osp.join(data_root, folder, name)) if full else sizes[image_id]
            digest.update(f'{what}\n'.encode())
    if label_file is not None:
        digest.update(f'\0labels\0{file_hash(_below(data_root, label_file))}\n'.encode())
    return {'pictures': len(ids), 'hash': digest.hexdigest()}


def _below(data_root, path):
    """``path`` in the data root if it is there, else as it is."""
    inside = osp.join(data_root, path)
    return inside if osp.exists(inside) or not osp.exists(path) else path


def _file_sizes(folder, ids, suffix) -> dict:
    """Size in bytes of the file of each id; ids may hold sub-folders (``a/b``)."""
    wanted = {}
    for image_id in ids:
        parent, name = osp.split(image_id)
        wanted.setdefault(parent, {})[name + suffix] = image_id
    sizes = {}
    for parent, names in wanted.items():
        place = osp.join(folder, parent)
        if not osp.isdir(place):
            raise MissingFileError(f'folder `{place}` does not exist; check `data_root`')
        with os.scandir(place) as entries:
            sizes.update({names[entry.name]: entry.stat().st_size for entry in entries if entry.name in names})
    missing = [image_id + suffix for image_id in ids if image_id not in sizes]
    if missing:
        raise MissingFileError(
            f'{len(missing)} of {len(ids)} files are not in `{folder}`: {voc_layout.shorten(missing)}; check the split '
            'list and the data'
        )
    return sizes
