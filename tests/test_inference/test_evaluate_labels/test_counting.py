import numpy as np
import pytest
from PIL import Image

from csrm_plugin.utils import MissingFileError, UserError

NAMES = ['background', 'cat', 'dog', 'kite', 'tent']  # nothing is ever a kite


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=np.uint8)).save(path)


@pytest.mark.parametrize('classes', [NAMES, None])
@pytest.mark.parametrize('thresholds', [None, '0:1:0.1'])
def test_neither_processes_nor_order_change_a_digit(random_folder, monkeypatch, classes, thresholds):
    monkeypatch.setattr('csrm_plugin.inference.evaluate_labels.counting._CHUNK', 2)
    reports = [random_folder.score(classes=classes, thresholds=thresholds, workers=workers) for workers in (0, 1, 2)]
    random_folder.split.write_text('p3\np0\np4\np2\np1\n')
    reports.append(random_folder.score(classes=classes, thresholds=thresholds, workers=2))
    for report in reports[1:]:
        assert report == reports[0]


@pytest.mark.parametrize('workers', [0, 2])
def test_errors_of_a_file_name_it(folder, workers):
    for name in 'abc':
        folder.add(name, [[0, 1]], [[0, 1]], [[[0.1, 0.9]]], [0])

    def fails(kind=UserError, **settings):
        with pytest.raises(kind) as caught:
            folder.score(**{'classes': ['cat'], 'workers': workers, **settings})
        return str(caught.value)

    save(folder.pred / 'b.png', [[0, 1, 1]])
    message = fails()
    assert f'{folder.pred}/b.png` has 3 x 1' in message and f'{folder.gt}/b.png` has 2 x 1' in message
    save(folder.pred / 'b.png', [[0, 2]])
    assert 'b.png` holds class 2' in fails()
    (folder.pred / 'b.png').write_bytes((folder.pred / 'a.png').read_bytes()[:45])
    assert 'b.png` cannot be read' in fails()
    (folder.pred / 'b.png').unlink()
    assert 'b.png' in fails(MissingFileError) and '1 of 3 predictions' in fails(MissingFileError)
    save(folder.pred / 'b.png', [[0, 1]])
    save(folder.gt / 'c.png', np.zeros((1, 2, 3)))
    assert f'{folder.gt}/c.png` has the mode RGB' in fails()
    save(folder.gt / 'c.png', [[0, 7]])
    assert f'{folder.gt}/c.png` holds class 7' in fails()
    (folder.gt / 'c.png').unlink()
    assert '1 of 3 masks' in fails(MissingFileError)


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(cams=np.zeros((1, 1, 3)), classes=np.array([0])), '3 x 1'),
        (dict(cams=np.zeros((1, 2)), classes=np.array([0])), 'n, H, W'),
        (dict(cams=np.zeros((2, 1, 2)), classes=np.array([0])), 'n, H, W'),
        (dict(cams=np.zeros((1, 1, 2), dtype=np.uint8), classes=np.array([0])), 'uint8'),
        (dict(cams=np.zeros((1, 1, 2)), classes=np.array([1])), r'\[1\]'),
        (dict(cams=np.zeros((1, 1, 2)), classes=np.array([-1])), r'\[-1\]'),
        (dict(cams=np.zeros((2, 1, 2)), classes=np.array([0, 0])), r'\[0, 0\]'),
        (dict(cams=np.full((1, 1, 2), 1.5), classes=np.array([0])), '1.5'),
        (dict(cams=np.full((1, 1, 2), np.nan), classes=np.array([0])), 'nan'),
        (dict(cams=np.zeros((1, 1, 2))), 'classes'),
        (dict(cams=np.zeros((1, 1, 2)), classes=np.array([None])), 'cannot be read'),
        (b'PK\x03\x04 nothing', 'cannot be read'),
        (b'', 'cannot be read'),
        (b'\x93NUMPY', 'cannot be read'),
    ],
)
def test_errors_of_cams_name_the_file(folder, content, message):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    path = folder.pred / 'cams' / 'a.npz'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(UserError, match=message) as caught:
        folder.score(classes=['cat'], thresholds=[0.5])
    assert str(path) in str(caught.value)


def test_an_array_that_is_no_npz(folder):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    with open(folder.pred / 'cams' / 'a.npz', 'wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r'a\.npz` cannot be read'):
        folder.score(classes=['cat'], thresholds=[0.5])


def test_truncated_npz(folder):
    folder.add('a', [[0, 1]], cams=[[[0.1, 0.9]]], classes=[0])
    path = folder.pred / 'cams' / 'a.npz'
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r'a\.npz'):
            folder.score(classes=['cat'], thresholds=[0.5])
    damaged = bytearray(whole)
    damaged[60:80] = bytes(20)
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r'a\.npz'):
        folder.score(classes=['cat'], thresholds=[0.5])
