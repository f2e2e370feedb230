import gzip
import hashlib
import io
import json
import shutil
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.datasets.voc_layout import voc_palette
from csrm_plugin.inference.export_voc import archive_folder, check_archive, export_voc, split_note
from csrm_plugin.utils import MissingFileError, UserError

SIZES = {'2008_000006': (5, 7), '2008_000011': (6, 4), '2008_000012': (3, 3)}  # height, width
FOLDER = 'results/VOC2012/Segmentation/comp6_test_cls'


def save(path, labels, mode='P'):
    picture = Image.fromarray(labels.astype(np.uint8))
    if mode == 'P':
        picture.putpalette([9, 9, 9] * 256)  # not VOC's
    picture.save(path)


@pytest.fixture
def voc(tmp_path):
    """A folder with `preds`, `JPEGImages` and `test.txt` of three pictures; one label map is grey."""
    (tmp_path / 'preds').mkdir()
    (tmp_path / 'JPEGImages').mkdir()
    generator = np.random.default_rng(0)
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        labels = generator.integers(0, 21, (height, width))
        labels.flat[:2] = 0, 20
        save(tmp_path / 'preds' / f'{name}.png', labels, mode='L' if number == 1 else 'P')
        Image.new('RGB', (width, height)).save(tmp_path / 'JPEGImages' / f'{name}.jpg')
    # Not in the order of the alphabet: the archive is.
    (tmp_path / 'test.txt').write_text('\n'.join(reversed(SIZES)) + '\n')
    return tmp_path


def export(voc, out='results.tgz', **kwargs):
    return export_voc(voc / 'preds', voc / 'test.txt', voc / out, **kwargs)


def check(voc, archive='results.tgz', **kwargs):
    return check_archive(voc / archive, voc / 'test.txt', **kwargs)


def read_tar(path):
    """Name to bytes, in the order of the archive."""
    with tarfile.open(path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def write_tar(path, contents, extra=()):
    with tarfile.open(path, 'w:gz') as archive:
        for name, content in [*contents.items(), *extra]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def png(labels, mode='P'):
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(labels, dtype=np.uint8))
    if mode == 'P':
        picture.putpalette([0, 0, 0] * 256)
    picture.convert(mode).save(buffer, format='PNG')
    return buffer.getvalue()


def test_archive_has_the_layout_palette_sizes_and_values_of_the_server(voc):
    (voc / 'preds' / 'other.png').write_bytes(b'not in the split')
    result = export(voc, pictures=voc / 'JPEGImages')
    assert result == dict(
        out=str(voc / 'results.tgz'), folder=FOLDER, files=3, regrayed=1, left_out=1, sizes_checked=True
    )
    contents = read_tar(voc / 'results.tgz')
    assert list(contents) == [f'{FOLDER}/{name}.png' for name in sorted(SIZES)]
    for name, (height, width) in SIZES.items():
        picture = Image.open(io.BytesIO(contents[f'{FOLDER}/{name}.png']))
        assert (picture.format, picture.mode, picture.size) == ('PNG', 'P', (width, height))
        assert picture.getpalette()[:63] == [value for colour in voc_palette(21) for value in colour]
        assert np.array_equal(picture, Image.open(voc / 'preds' / f'{name}.png'))
    assert check(voc, pictures=voc / 'JPEGImages') == []


@pytest.mark.parametrize('ending', ['tgz', 'tar.gz', 'tar', 'zip'])
def test_equal_label_maps_give_equal_bytes_that_the_check_takes(voc, ending):
    digests = []
    for folder in ('a', 'b'):  # another name and time of the archive must not show
        export(voc, out=f'{folder}/{folder}.{ending}')
        digests.append(hashlib.sha256((voc / folder / f'{folder}.{ending}').read_bytes()).hexdigest())
        for path in (voc / 'preds').iterdir():
            shutil.copy(path, path.with_suffix('.new'))
            path.with_suffix('.new').rename(path)
    assert digests[0] == digests[1]
    assert check(voc, f'a/a.{ending}', pictures=voc / 'JPEGImages') == []
    content = (voc / 'a' / f'a.{ending}').read_bytes()
    if ending == 'zip':
        infos = zipfile.ZipFile(io.BytesIO(content)).infolist()
        assert {info.date_time[:3] for info in infos} == {(1980, 1, 1)}
    else:
        if ending != 'tar':
            assert struct.unpack('<I', content[4:8]) == (0,) and not content[3]  # no time and no name in the header
            content = gzip.decompress(content)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            infos = archive.getmembers()
        assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in infos} == {(0, 0, 0, '', 0o644)}


def test_competition_5_has_its_own_folder(voc):
    assert export(voc, competition='comp5')['folder'] == FOLDER.replace('comp6', 'comp5')
    assert check(voc, competition='comp5') == []
    (problem,) = check(voc)
    assert problem.startswith('3 files are in the wrong folder: ') and f'must be in `{FOLDER}/`' in problem
    with pytest.raises(UserError, match=r'--competition must be comp5 .* or comp6 .*, but is `comp7`'):
        archive_folder('comp7')


def test_export_tells_all_problems_in_one_line_and_writes_nothing(voc):
    first, second, third = sorted(SIZES)
    save(voc / 'preds' / f'{first}.png', np.array([[255, 0, 21]]))
    save(voc / 'preds' / f'{second}.png', np.zeros((6, 4, 3)), mode='RGB')
    (voc / 'preds' / f'{third}.png').unlink()
    with pytest.raises(UserError) as info:
        export(voc, pictures=voc / 'JPEGImages')
    message = str(info.value)
    assert '\n' not in message
    for part in (
        '1 of the 3 names of the split are missing: 2008_000012',
        '1 files have a mode other than P (indexed): 2008_000011.png (RGB)',
        '1 files hold classes above 20: 2008_000006.png (class 21)',
        '1 files hold 255 (uncertain): 2008_000006.png',
        'predict without uncertain pixels',
        '1 files differ in size from their pictures: 2008_000006.png (3 x 1 instead of 7 x 5)',
    ):
        assert part in message
    assert not (voc / 'results.tgz').exists()
    with pytest.raises(UserError) as info:
        export(voc)  # without pictures nothing is said about sizes
    assert 'differ in size' not in str(info.value)


def test_what_is_wrong_with_the_arguments_is_told(voc):
    with pytest.raises(UserError, match=r'--out must end in \.tgz, .* but is `.*results\.rar`'):
        export(voc, out='results.rar')
    with pytest.raises(MissingFileError, match='should hold the label maps'):
        export_voc(voc / 'nowhere', voc / 'test.txt', voc / 'x.tgz')
    with pytest.raises(MissingFileError, match='--pictures: folder'):
        export(voc, pictures=voc / 'nowhere')
    (voc / 'JPEGImages' / '2008_000006.jpg').write_bytes(b'')
    with pytest.raises(UserError, match=r'--pictures: `.*2008_000006\.jpg` is no picture'):
        export(voc, pictures=voc / 'JPEGImages')
    (voc / 'JPEGImages' / '2008_000006.jpg').unlink()
    with pytest.raises(MissingFileError, match=r'1 of 3 pictures are not in .*: 2008_000006\.jpg'):
        export(voc, pictures=voc / 'JPEGImages')
    (voc / 'preds' / 'labels.json').write_text(json.dumps(dict(classes=['background', 'cow'])))
    with pytest.raises(UserError, match=r'labels of 2 classes \(background, cow\), but VOC has 21'):
        export(voc)
    with pytest.raises(MissingFileError, match=r'archive `.*` does not exist'):
        check(voc, 'nowhere.tgz')
    (voc / 'test.txt').write_text('a/b\n')
    with pytest.raises(UserError, match=r'ids with a folder \(a/b\)'):
        export(voc)


def test_check_tells_all_problems_at_once(voc):
    export(voc)
    good = read_tar(voc / 'results.tgz')
    first, second, third = (f'{FOLDER}/{name}.png' for name in sorted(SIZES))
    broken = {
        first: png(np.full((5, 7), 255)),
        second: png(np.full((4, 6), 30), 'L'),
        f'results/{third.rpartition("/")[2]}': good[third],
        f'{FOLDER}/2008_000013.png': good[third],
        f'{FOLDER}/.DS_Store': b'',
    }
    write_tar(voc / 'bad.tgz', broken, extra=[(first, good[first])])
    problems = check(voc, 'bad.tgz', pictures=voc / 'JPEGImages')
    assert [problem.split(';')[0] for problem in problems] == [
        f'2 files do not belong there: {FOLDER}/2008_000013.png, {FOLDER}/.DS_Store',
        f'1 files are there more than once: {first}',
        '1 files are in the wrong folder: results/2008_000012.png',
        f'1 files are grey, not indexed with a palette: {second} (mode L)',
        f'1 files hold classes above 20: {second} (class 30)',
        f'1 files hold 255 (uncertain): {first}',
        f'1 files differ in size from their pictures: {second} (6 x 4 instead of 4 x 6)',
    ]
    assert not any('size' in problem for problem in check(voc, 'bad.tgz'))


def test_check_finds_missing_truncated_coloured_and_other_pictures(voc):
    export(voc)
    first, second, third = (f'{FOLDER}/{name}.png' for name in sorted(SIZES))
    good = read_tar(voc / 'results.tgz')
    jpeg = io.BytesIO()
    Image.new('L', (4, 6)).save(jpeg, format='JPEG')
    truncated = good[first][: good[first].index(b'IDAT') + 10]
    write_tar(voc / 'bad.tgz', {first: truncated, second: jpeg.getvalue(), third: png(np.zeros((3, 3)), 'RGB')})
    assert [problem.split(';')[0] for problem in check(voc, 'bad.tgz')] == [
        f'2 files are truncated or no PNG: {first}, {second}',
        f'1 files have a mode other than P (indexed): {third} (RGB)',
    ]
    write_tar(voc / 'bad.tgz', {second: good[second]})
    assert check(voc, 'bad.tgz') == ['2 of the 3 names of the split are missing: 2008_000012, 2008_000006']


def test_check_takes_folders_and_leading_dots_but_no_links(voc):
    export(voc)
    with tarfile.open(voc / 'dots.tgz', 'w:gz') as archive:
        for name in ('./results', './results/VOC2012/Main'):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, content in read_tar(voc / 'results.tgz').items():
            info = tarfile.TarInfo(f'./{name}')
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert check(voc, 'dots.tgz') == []
    with tarfile.open(voc / 'link.tgz', 'w:gz') as archive:
        info = tarfile.TarInfo(f'{FOLDER}/2008_000006.png')
        info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(info)
    problems = check(voc, 'link.tgz')
    assert '3 of the 3 names' in problems[0] and '1 files do not belong there' in problems[1]


@pytest.mark.parametrize('ending', ['tgz', 'tar', 'zip'])
def test_truncated_archives_are_told(voc, ending):
    export(voc, out=f'whole.{ending}')
    content = (voc / f'whole.{ending}').read_bytes()
    # Of the blocks of a tar, the fifth is in the content of the second file; zeros at the end may be missing.
    lengths = (10, 5 * 512 - 60) if ending == 'tar' else (10, len(content) // 2, len(content) - 4)
    for length in lengths:
        (voc / f'cut.{ending}').write_bytes(content[:length])
        assert 'cannot be read to its end' in check(voc, f'cut.{ending}')[0]
    (voc / 'text.tgz').write_text('no archive')
    (problem,) = check(voc, 'text.tgz')
    assert 'cannot be read to its end as tar, tar.gz or zip' in problem


def test_whole_test_split_is_told_from_others_by_its_length(tmp_path):
    path = tmp_path / 'test.txt'
    path.write_text('\n'.join(f'2008_{number:06d}' for number in range(1456)))
    assert split_note(path) is None
    path.write_text('2008_000001')
    assert 'has 1 names, but the test split of VOC 2012 has 1456' in split_note(path)
