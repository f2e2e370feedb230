import gc
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.inference.pseudo_labels import work


def pngs(folder):
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.glob('*.png'))}


def same(one, other):
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def test_shards_workers_and_a_second_run_give_the_same_files(make, tmp_path):
    done = make(out='a')
    assert (done['pictures'], done['made'], done['skipped']) == (4, 4, 0)
    whole = pngs(tmp_path / 'a')
    assert len(whole) == 4 and all(labels.shape == (40, 48) for labels in whole.values())
    assert Image.open(next((tmp_path / 'a').glob('*.png'))).mode == 'P'
    for index in (1, 0):
        make(out='b', shard=(index, 2), workers=2)
    assert same(whole, pngs(tmp_path / 'b'))


def test_a_second_run_makes_what_is_gone_or_empty_and_opens_nothing(make, tmp_path, monkeypatch):
    make(out='b', save_cams=True)
    whole = pngs(tmp_path / 'b')
    paths = sorted((tmp_path / 'b').glob('*.png'))
    cams = sorted((tmp_path / 'b' / 'cams').glob('*.npz'))
    paths[0].unlink()
    paths[1].write_bytes(b'')
    cams[2].unlink()
    os.utime(paths[3], (1, 1))
    opened = []
    monkeypatch.setattr(work, 'read_label_png', lambda *given: opened.append(given))
    monkeypatch.setattr(work.np, 'load', lambda *given: opened.append(given))
    assert make(out='b', save_cams=True)['made'] == 3
    assert same(whole, pngs(tmp_path / 'b')) and paths[3].stat().st_mtime == 1
    assert make(out='b', save_cams=True)['made'] == 0 and not opened


@pytest.mark.parametrize('workers', [0, 2])
def test_files_that_are_cut_are_made_again_where_they_are_checked(make, tmp_path, capsys, workers):
    make(out='b')
    whole = pngs(tmp_path / 'b')
    paths = sorted((tmp_path / 'b').glob('*.png'))
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:30])
    os.utime(paths[2], (1, 1))
    assert make(out='b', check=True, workers=workers)['made'] == 2
    said = capsys.readouterr()
    assert f'label map `{paths[1]}` cannot be read' in said.out and '; it is made again' in said.out
    assert 'Checking: 3/3 images' in said.err
    assert same(whole, pngs(tmp_path / 'b')) and paths[2].stat().st_mtime == 1
    assert make(out='b', check=True)['made'] == 0


def test_without_a_check_files_that_are_cut_are_left(make, tmp_path):
    make(save_cams=True)
    for path in (next((tmp_path / 'out').glob('*.png')), next((tmp_path / 'out' / 'cams').glob('*.npz'))):
        path.write_bytes(path.read_bytes()[:40])
    assert make(save_cams=True)['made'] == 0


def test_saved_cams_that_are_cut_are_made_again_where_they_are_checked(make, tmp_path, capsys, recwarn):
    make(save_cams=True)
    first, second, third = sorted((tmp_path / 'out' / 'cams').glob('*.npz'))[:3]
    first.write_bytes(first.read_bytes()[:40])
    second.write_bytes(b'')
    np.savez(third, cams=np.zeros(1))
    assert make(save_cams=True, check=True)['made'] == 3
    said = capsys.readouterr().out
    assert f'CAMs `{first}` cannot be read' in said and f'CAMs `{third}` cannot be read' in said
    gc.collect()  # a file that was left open says so when it goes
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]
    assert make(save_cams=True, check=True)['made'] == 0


def test_pictures_that_were_cut_are_remembered(make, tmp_path):
    given = dict(settings=dict(source='seg', scales=(3,)), tile=128)
    assert len(make(**given)['tiled']) == 4
    next((tmp_path / 'out').glob('*.png')).unlink()
    assert len(make(**given)['tiled']) == 4  # also those that an earlier call made


def test_ids_with_folders_have_their_files_where_they_are_written(tmp_path):
    infos = [dict(img_id=name, img_path='none.jpg') for name in ('a', 'sub/a', 'sub/b')]
    how = work.LabelWork(None, None, {str(tmp_path): None}, [], save_cams=True)
    for name in ('a', 'sub/a'):
        label = work.label_path(str(tmp_path), name)
        for path in (label, work.cam_path(label)):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(path).write_text('x')
    assert [info['img_id'] for info in work.unfinished(infos, how)] == ['sub/b']
