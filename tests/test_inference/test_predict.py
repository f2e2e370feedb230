import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from csrm_plugin.inference.predict import classes_of, find_pictures, predict_pictures
from csrm_plugin.utils import MissingFileError, UserError


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (('a.jpg', (40, 50)), ('b.png', (33, 61)), ('c.JPEG', (48, 48))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / 'notes.txt').write_text('no picture')
    return folder


@pytest.fixture
def predict(root, demo_options, checkpoint_of, tmp_path):
    def call(pictures, name='csrm_demo', out=None, **given):
        config = str(root / 'mmcfg' / f'{name}.py')
        options = {key: value for key, value in demo_options.items() if 'root' not in key}
        return predict_pictures(
            config,
            checkpoint_of(name),
            [str(pictures)],
            str(out or tmp_path / 'out'),
            cfg_options=options,
            **{'workers': 0, **given},
        )

    return call


def test_a_folder_becomes_label_maps_and_overlays(predict, photos, tmp_path):
    assert predict(photos, settings=dict(flip=True))['made'] == 3
    for name, size in (('a', (40, 50)), ('b', (33, 61)), ('c', (48, 48))):
        labels = Image.open(tmp_path / 'out' / f'{name}.png')
        assert labels.mode == 'P' and np.array(labels).shape == size and np.array(labels).max() <= 6
        assert np.array(Image.open(tmp_path / 'out' / 'overlays' / f'{name}.png')).shape == (*size, 3)
    assert predict(photos, settings=dict(flip=True))['skipped'] == 3


def test_labels_restrict(predict, photos, tmp_path, root):
    from csrm_plugin.datasets.synthetic_dataset import SyntheticWSSSDataset

    classes = list(SyntheticWSSSDataset.METAINFO['classes'][1:])
    labels = dict(classes=classes, labels=dict(a=[classes[2]], b=[], c=classes))
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    predict(photos, label_file=str(tmp_path / 'labels.json'), overlays=False)
    assert set(np.unique(np.array(Image.open(tmp_path / 'out' / 'a.png')))) <= {0, 3}
    assert (np.array(Image.open(tmp_path / 'out' / 'b.png')) == 0).all()
    assert not (tmp_path / 'out' / 'overlays').exists()
    del labels['labels']['b']
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    with pytest.raises(UserError, match='1 of 3 pictures have no entry'):
        predict(photos, label_file=str(tmp_path / 'labels.json'))


def test_a_classifier_predicts_what_it_sees(predict, photos, tmp_path):
    predict(photos / 'a.jpg', 'cam_demo', settings=dict(threshold=0.3))
    assert [path.name for path in (tmp_path / 'out').glob('*.png')] == ['a.png']


def test_pictures_are_found_or_named(photos):
    assert [info['img_id'] for info in find_pictures([str(photos)])] == ['a', 'b', 'c']
    assert len(find_pictures([str(photos / '*.png'), str(photos / 'a.jpg'), str(photos / 'a.jpg')])) == 2
    with pytest.raises(MissingFileError, match=r'no pictures at `.*empty`'):
        (photos / 'empty').mkdir()
        find_pictures([str(photos / 'empty')])
    (photos / 'a.png').write_bytes((photos / 'b.png').read_bytes())
    with pytest.raises(UserError, match='have the same name'):
        find_pictures([str(photos)])


def test_the_checkpoint_names_the_classes(root, tmp_path):
    from csrm_plugin.config.load import load_config

    cfg = load_config(str(root / 'mmcfg' / 'csrm_demo.py'))
    meta = dict(dataset_meta=dict(classes=('background', 'x'), palette=[[0, 0, 0], [1, 2, 3]]))
    torch.save(dict(state_dict={}, meta=meta), tmp_path / 'c.pth')
    assert classes_of(cfg, tmp_path / 'c.pth') == (['background', 'x'], [[0, 0, 0], [1, 2, 3]])
    torch.save(dict(state_dict={}), tmp_path / 'c.pth')
    assert len(classes_of(cfg, tmp_path / 'c.pth')[0]) == 7


def test_the_folder_of_the_pictures_is_left_alone(predict, photos, tmp_path, monkeypatch):
    before = (photos / 'b.png').read_bytes()
    with pytest.raises(UserError, match='holds the pictures themselves'):
        predict(photos, out=photos)
    assert (photos / 'b.png').read_bytes() == before


def test_another_picture_of_the_same_name_is_predicted_anew(predict, photos):
    predict(photos)
    os.utime(photos / 'b.png', (2e9, 2e9))
    assert predict(photos)['made'] == 1


def test_pictures_of_cameras_are_turned_as_they_say(predict, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / 'phone.jpg', exif=exif)
    predict(tmp_path / 'phone.jpg', settings=dict(crf={}))
    assert Image.open(tmp_path / 'out' / 'phone.png').size == (40, 60)  # width, height


def test_a_broken_picture_is_named_and_leaves_nothing(predict, photos, tmp_path):
    (photos / 'a.jpg').write_bytes(b'broken')
    with pytest.raises(UserError, match=r'picture `.*a\.jpg` cannot be read'):
        predict(photos)
    assert not list((tmp_path / 'out').glob('*.png'))
