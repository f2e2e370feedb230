"""The archive that the evaluation server of PASCAL VOC 2012 takes, and what it would reject.

The layout is that of the challenge's development kit: ``results/VOC2012/Segmentation/comp6_test_cls/<id>.png``, one
indexed PNG per test picture in the picture's own size, whose values are the classes 0..20. There is no 255 in it: each
pixel must be given a class. ``comp5`` is for training on VOC's own data alone, ``comp6`` for everything else, ImageNet
weights included.
"""

import gzip
import io
import os
import os.path as osp
import posixpath
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image

from csrm_plugin.datasets import voc_layout
from csrm_plugin.datasets.label_folder import read_manifest
from csrm_plugin.utils import MissingFileError, UserError, atomic_write
from csrm_plugin.utils.progress import track

COMPETITIONS = ('comp5', 'comp6')

#: Classes of VOC, the background included.
NUM_CLASSES = 21

#: Pictures of the test split of VOC 2012.
TEST_PICTURES = 1456

#: Kinds of archive by what their names end in.
ARCHIVES = ('.tgz', '.tar.gz', '.tar', '.zip')

#: Modes of a picture whose pixels are numbers without colours.
_GREY = ('L', '1', 'I', 'I;16')

_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # SyntaxError: a broken PNG chunk
_BROKEN_ARCHIVE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)

#: What can be wrong with files; ``{n}`` is how many there are, ``{names}`` some of them.
_MESSAGES = dict(
    missing='{n} of the {total} names of the split are missing: {names}',
    extra='{n} files do not belong there: {names}; only `<id>.png` of the split may be in it',
    twice='{n} files are there more than once: {names}',
    folder='{n} files are in the wrong folder: {names}; they must be in `{folder}/`',
    unreadable='{n} files are truncated or no PNG: {names}; make them again',
    colour='{n} files have a mode other than P (indexed): {names}; the pixels must be class indices, not colours',
    grey='{n} files are grey, not indexed with a palette: {names}; `tools/export_voc.py` rewrites them',
    classes='{n} files hold classes above 20: {names}; VOC has 0 (background) to 20, so this is another data set',
    uncertain='{n} files hold 255 (uncertain): {names}; the server wants a class for each pixel: predict without '
    'uncertain pixels (`tools/pseudo_labels.py` without --bg-threshold for CAMs, without --threshold for --source seg)',
    size='{n} files differ in size from their pictures: {names}; predict in the original size',
)


class _Findings:
    """What is wrong: for each kind in :data:`_MESSAGES` the files that have it.

    Args:
        total (int): Names in the split.
        folder (str): Where the files must be in the archive.
    """

    def __init__(self, total, folder) -> None:
        self.values = dict(total=total, folder=folder)
        self.names = {}

    def add(self, kind, name, detail=''):
        """Note that the file ``name`` has a problem of that kind."""
        self.names.setdefault(kind, []).append(f'{name} ({detail})' if detail else name)

    def lines(self):
        """One sentence per kind, in the order of the table, with three examples."""
        return [
            template.format(n=len(self.names[kind]), names=voc_layout.shorten(self.names[kind]), **self.values)
            for kind, template in _MESSAGES.items()
            if kind in self.names
        ]


def archive_folder(competition: str = 'comp6') -> str:
    """Folder of the label maps in the archive.

    Args:
        competition (str): ``comp5`` (VOC's data alone) or ``comp6`` (outside data, such as ImageNet weights).

    Raises:
        UserError: If it is another one.
    """
    if competition not in COMPETITIONS:
        raise UserError(
            f'--competition must be comp5 (trained on VOC alone) or comp6 (outside data), but is `{competition}`'
        )
    return f'results/VOC2012/Segmentation/{competition}_test_cls'


def split_note(split_file: str) -> str | None:
    """A sentence where the split cannot be the whole test split, judging by its length; None where it may be."""
    count = len(_read_ids(split_file))
    if count == TEST_PICTURES:
        return None
    return (
        f'{split_file} has {count} names, but the test split of VOC 2012 has {TEST_PICTURES}: it is a list of your '
        'own or a part of it, and the server wants the whole'
    )


def export_voc(
    pred_dir: str, split_file: str, out: str, pictures: str | None = None, competition: str = 'comp6'
) -> dict:
    """Write the archive for the evaluation server, once every label map is known to be right.

    All label maps are written anew as 8-bit indexed PNG with VOC's palette, and equal label maps give equal bytes.

    Args:
        pred_dir (str): Folder with ``<id>.png``, mode ``P`` or grey, values 0..20, original sizes.
        split_file (str): List of the test ids; exactly these go into the archive.
        out (str): The archive, ``.tgz``, ``.tar.gz``, ``.tar`` or ``.zip``.
        pictures (str, optional): Folder with ``<id>.jpg``: the label maps must have their sizes. Only the headers are
            read. Not checked without.
        competition (str): See :func:`archive_folder`.

    Returns:
        dict: ``out`` and ``folder`` (in the archive); ``files``, ``regrayed`` (grey ones that got the palette) and
        ``left_out`` (PNG files that are not in the split), all int; ``sizes_checked`` (bool).

    Raises:
        MissingFileError: If the folder, the list or a picture does not exist.
        UserError: With everything that is wrong, in one line; nothing is written then.
    """
    folder = archive_folder(competition)
    _check_ending(out)
    ids = _read_ids(split_file)
    if not osp.isdir(pred_dir):
        raise MissingFileError(f'folder `{pred_dir}` does not exist; it should hold the label maps to export')
    _check_classes(pred_dir)
    sizes = _picture_sizes(pictures, ids)
    findings = _Findings(len(ids), folder)
    missing = set(voc_layout.missing_files(pred_dir, ids, '.png'))
    contents, grey = {}, 0
    for image_id in track(ids, len(ids), 'reading label maps'):
        name = f'{image_id}.png'
        if image_id in missing:
            findings.add('missing', image_id)
            continue
        mode, labels = _examine(findings, name, osp.join(pred_dir, name), sizes.get(image_id))
        if labels is not None:
            contents[f'{folder}/{name}'] = _encode(labels)
            grey += mode != 'P'
    problems = findings.lines()
    if problems:
        raise UserError(f'nothing is exported from `{pred_dir}`: {"; ".join(problems)}')
    with atomic_write(out) as temporary:
        _write_archive(temporary, out, contents)
    left_out = len(voc_layout.list_names(pred_dir, '.png') - set(ids))
    return dict(
        out=os.fspath(out),
        folder=folder,
        files=len(contents),
        regrayed=grey,
        left_out=left_out,
        sizes_checked=pictures is not None,
    )


def check_archive(path: str, split_file: str, pictures: str | None = None, competition: str = 'comp6') -> list[str]:
    """Say what the evaluation server would reject.

    Args:
        path (str): The archive; tar, tar.gz or zip, told by its content.
        split_file (str): List of the test ids.
        pictures (str, optional): Folder with ``<id>.jpg`` for the sizes; only the headers are read.
        competition (str): See :func:`archive_folder`.

    Returns:
        list[str]: One sentence per kind of problem, with how many files have it and three examples; empty for a good
        archive.

    Raises:
        MissingFileError: If the archive, the list, the folder or a picture does not exist.
        UserError: If the list is broken or the competition unknown.
    """
    folder = archive_folder(competition)
    ids = _read_ids(split_file)
    if not osp.isfile(path):
        raise MissingFileError(f'archive `{path}` does not exist')
    sizes = _picture_sizes(pictures, ids)
    findings, seen, found = _Findings(len(ids), folder), set(), set()
    broken, wanted = [], set(ids)
    try:
        for member, file in track(_members(path), len(ids), 'checking'):
            image_id, ending = osp.splitext(posixpath.basename(member))
            if member in seen:
                findings.add('twice', member)
                continue
            seen.add(member)
            if ending != '.png' or image_id not in wanted or file is None:
                findings.add('extra', member)
                continue
            if posixpath.dirname(member) != folder:
                findings.add('folder', member)
            found.add(image_id)
            _examine(findings, member, file, sizes.get(image_id), indexed=True)
    except _BROKEN_ARCHIVE as error:
        broken = [f'`{path}` cannot be read to its end as tar, tar.gz or zip ({_brief(error)}); make it again']
    # Of what is no archive at all, one sentence is enough.
    for image_id in ids if found or not broken else ():
        if image_id not in found:
            findings.add('missing', image_id)
    return broken + findings.lines()


def _read_ids(split_file):
    """Ids of the split; names with a folder are refused, for there is none in the archive."""
    ids = voc_layout.read_split(os.fspath(split_file))
    wrong = [image_id for image_id in ids if '/' in image_id or '\\' in image_id]
    if wrong:
        raise UserError(
            f'{split_file} has ids with a folder ({voc_layout.shorten(wrong)}), which the server does not know; '
            'write the names alone'
        )
    return ids


def _check_ending(out):
    """Raise unless the name says which kind of archive it is."""
    if not os.fspath(out).lower().endswith(ARCHIVES):
        raise UserError(f'--out must end in {", ".join(ARCHIVES)}, but is `{out}`')


def _check_classes(pred_dir):
    """Raise if ``labels.json`` of the folder says that the labels are those of another data set."""
    classes = (read_manifest(pred_dir) or {}).get('classes')
    if isinstance(classes, list) and len(classes) != NUM_CLASSES:
        raise UserError(
            f'`{pred_dir}` holds labels of {len(classes)} classes ({voc_layout.shorten(classes)}), but VOC has '
            f'{NUM_CLASSES} with the background: it is another data set'
        )


def _picture_sizes(pictures, ids):
    """(H, W) of the picture of each id, from the headers; empty without a folder."""
    if pictures is None:
        return {}
    if not osp.isdir(pictures):
        raise MissingFileError(f'--pictures: folder `{pictures}` does not exist')
    missing = voc_layout.missing_files(pictures, ids, '.jpg')
    if missing:
        raise MissingFileError(
            f'--pictures: {len(missing)} of {len(ids)} pictures are not in `{pictures}`: '
            f'{voc_layout.shorten(name + ".jpg" for name in missing)}'
        )
    sizes = {}
    for image_id in ids:
        path = osp.join(pictures, f'{image_id}.jpg')
        try:
            with Image.open(path) as picture:
                sizes[image_id] = picture.size[::-1]
        except _UNREADABLE as error:
            raise UserError(f'--pictures: `{path}` is no picture ({_brief(error)})') from error
    return sizes


def _examine(findings, name, source, size, indexed=False):
    """Note everything that is wrong with one label map.

    Args:
        findings (_Findings): Gets the problems.
        name (str): What to call the file.
        source (str | BinaryIO): Where it is.
        size (tuple[int, int], optional): (H, W) that it must have.
        indexed (bool): Whether grey is a problem; on export it is mended.

    Returns:
        tuple[str, np.ndarray | None]: Mode, and the labels (H, W); None if the pixels are no labels.
    """
    try:
        with Image.open(source, formats=['PNG']) as picture:
            mode, pixels = picture.mode, np.asarray(picture)
    except _UNREADABLE:
        findings.add('unreadable', name)
        return '', None
    if size is not None and pixels.shape[:2] != size:
        findings.add('size', name, f'{pixels.shape[1]} x {pixels.shape[0]} instead of {size[1]} x {size[0]}')
    if mode != 'P' and mode not in _GREY:
        findings.add('colour', name, mode)
        return mode, None
    if indexed and mode != 'P':
        findings.add('grey', name, f'mode {mode}')
    values = np.unique(pixels).astype(np.int64)
    if (values == voc_layout.IGNORE_INDEX).any():
        findings.add('uncertain', name)
    wrong = values[((values >= NUM_CLASSES) & (values != voc_layout.IGNORE_INDEX)) | (values < 0)]
    if wrong.size:
        findings.add('classes', name, f'class {wrong[0]}')
    return mode, pixels


def _encode(labels):
    """Bytes of the indexed PNG of labels (H, W), 0..20, with VOC's palette."""
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(bytes(np.array(voc_layout.voc_palette(256), dtype=np.uint8)))
    buffer = io.BytesIO()
    picture.save(buffer, format='PNG')
    return buffer.getvalue()


def _write_archive(path, name, contents):
    """Write ``contents`` (name in the archive to bytes) to ``path`` as ``name`` ends, with no trace of when and who."""
    name = os.fspath(name).lower()
    if name.endswith('.zip'):
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for member in sorted(contents):
                info = zipfile.ZipInfo(member)  # of 1980
                info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
                archive.writestr(info, contents[member])
        return
    with open(path, 'wb') as file:
        if name.endswith('.tar'):
            _write_tar(file, contents)
            return
        # Without a name, or the temporary one would be in the header.
        with gzip.GzipFile(filename='', fileobj=file, mode='wb', mtime=0) as packed:
            _write_tar(packed, contents)


def _write_tar(file, contents):
    """Write a tar with sorted names, time 0 and no owner into an open file."""
    with tarfile.open(fileobj=file, mode='w') as archive:
        for member in sorted(contents):
            info = tarfile.TarInfo(member)
            info.size = len(contents[member])
            archive.addfile(info, io.BytesIO(contents[member]))


def _members(path):
    """Name and content of each file in an archive; folders are passed over, a link has no content (None)."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield _clean(info.filename), io.BytesIO(archive.read(info))
        return
    with open(path, 'rb') as file:
        packed = file.read(2) == b'\x1f\x8b'
    with tarfile.open(path, 'r:gz' if packed else 'r:') as archive:
        for info in archive:
            if not info.isdir():
                yield _clean(info.name), io.BytesIO(archive.extractfile(info).read()) if info.isfile() else None
        while archive.fileobj.read(1 << 20):  # to the checksum at the end
            pass


def _clean(name):
    """The name without the leading ``./`` that ``tar`` writes for ``.``."""
    return name[2:] if name.startswith('./') else name


def _brief(error):
    """First line of an error, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
