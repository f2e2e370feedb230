import io
import os

import pytest
from rich.console import Console

from csrm_plugin.inference.finished import find_damaged, present_files


def test_files_that_are_there_and_not_empty_are_found_with_their_times(tmp_path):
    (tmp_path / 'sub').mkdir()
    for name, content in {'a.png': b'x', 'empty.png': b'', 'sub/a.png': b'y', 'other.txt': b'z'}.items():
        (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / 'a.png', (1, 7))
    names = ['a.png', 'empty.png', 'sub/a.png', 'sub/none.png', 'gone/a.png']
    found = present_files(tmp_path, names)
    assert set(found) == {'a.png', 'sub/a.png'} and found['a.png'] == 7
    assert present_files(tmp_path / 'nowhere', names) == {}


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    for index in range(50):
        (tmp_path / f'{index}.png').write_bytes(b'x')
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, 'scandir', lambda place: (listed.append(place), scandir(place))[1])
    assert len(present_files(str(tmp_path), (f'{index}.png' for index in range(60)))) == 50
    assert len(listed) == 1


def too_high(number):
    return f'{number} is above 2' if number > 2 else None


@pytest.mark.parametrize('workers', [0, 2])
def test_damaged_files_are_told_and_given_in_order(capsys, workers):
    console = Console(file=io.StringIO())
    assert find_damaged(too_high, [4, 1, 3, 2], workers, console) == [4, 3]
    said = capsys.readouterr().out.splitlines()
    assert sorted(said) == ['3 is above 2; it is made again', '4 is above 2; it is made again']
    assert 'Checking: 4/4 images' in console.file.getvalue()
