import os
import shutil
import time

import pytest

from csrm_plugin.experiments.pipeline import contents
from csrm_plugin.experiments.pipeline.contents import ContentMemory, content_of


def test_a_folder_counts_by_its_files(tmp_path):
    (tmp_path / 'a.png').write_text('1')
    before = content_of(tmp_path)
    (tmp_path / '.b.png').write_text('temporary')
    assert content_of(tmp_path) == before
    (tmp_path / 'b.png').write_text('2')
    after = content_of(tmp_path)
    assert after != before and after['files'] == 2
    (tmp_path / 'b.png').rename(tmp_path / 'c.png')
    assert content_of(tmp_path) != after
    before = content_of(tmp_path)
    (tmp_path / 'tiled.txt').write_text('b 512\na 512\n')  # what was cut, in the order in which shards came to it
    assert content_of(tmp_path) == before


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_content_counts_and_neither_place_nor_time_does(tmp_path, kind):
    folder = tmp_path / 'a'
    folder.mkdir()
    (folder / 'x.png').write_text('1234')
    path = folder if kind == 'folder' else folder / 'x.png'
    before = content_of(path)
    os.utime(folder / 'x.png', (1, 1))
    assert content_of(path) == before
    shutil.copytree(folder, tmp_path / 'b')
    assert content_of(tmp_path / 'b' / path.relative_to(folder)) == before
    (folder / 'x.png').write_text('1235')
    os.utime(folder / 'x.png', (1, 1))
    assert content_of(path) != before


def test_what_was_not_touched_is_not_read_again(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(contents, 'content_of', lambda path: read.append(path) or content_of(path))
    monkeypatch.setattr(contents, '_SETTLED', -(10**12))
    (tmp_path / 'labels').mkdir()
    picture, weights = tmp_path / 'labels' / 'a.png', tmp_path / 'w.pth'
    for path in (picture, weights):
        path.write_text('1')
    paths = [str(tmp_path / 'labels'), str(weights)]

    def look():
        read.clear()
        memory = ContentMemory(str(tmp_path / 'memory.json'))
        found = [memory.content(path) for path in paths]
        memory.save()
        return found

    first = look()
    assert read == paths and first == [content_of(path) for path in paths]
    assert look() == first and read == []
    before = picture.stat()
    picture.write_text('2')
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time of the change of the inode tells
    assert look() == [content_of(path) for path in paths] != first and read == paths[:1]
    os.replace(shutil.copy(weights, tmp_path / 'copy'), weights)
    assert look()[1] == first[1] and read == paths[1:]
    (tmp_path / 'memory.json').write_text('broken')
    assert look()[1] == first[1] and read == paths
    moved = tmp_path / 'elsewhere'
    moved.mkdir()
    for name in ('labels', 'w.pth', 'memory.json'):
        (tmp_path / name).rename(moved / name)
    read.clear()
    assert ContentMemory(str(moved / 'memory.json')).content(str(moved / 'w.pth')) == first[1]
    assert len(read) <= 1  # renaming may count as a change of the file itself


def test_what_changed_a_moment_ago_is_not_remembered(tmp_path, monkeypatch):
    path, memory = tmp_path / 'a.png', ContentMemory()
    changed = time.time_ns()
    monkeypatch.setattr(contents, '_stamp', lambda path: ('same', changed))  # a clock that ticks but now and then
    for text in ('1', '2'):
        path.write_text(text)
        assert memory.content(str(path)) == content_of(path)
    changed -= 10**10
    before = memory.content(str(path))
    path.write_text('3')
    assert memory.content(str(path)) == before


def test_a_folder_of_many_files_takes_moments(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, '_SETTLED', -(10**12))
    for index in range(2000):
        (tmp_path / f'{index}.png').write_bytes(b'x' * 100)
    memory = ContentMemory()
    memory.content(str(tmp_path))
    begin = time.process_time()
    memory.content(str(tmp_path))
    assert time.process_time() - begin < 0.5
