import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from csrm_plugin.datasets import synthetic
from csrm_plugin.datasets.preparation import check_data
from csrm_plugin.utils import UserError

SMALL = dict(image_size=(64, 48), num_train=6, num_val=3)


def contents(root):
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, 'rb') as file:
                found[os.path.relpath(path, root)] = file.read()
    return found


def test_same_seed_same_bytes(tmp_path):
    first, second, third = (str(tmp_path / name) for name in 'abc')
    assert synthetic.ensure_synthetic(first, **SMALL)
    synthetic.ensure_synthetic(second, **SMALL)
    synthetic.ensure_synthetic(third, seed=1, **SMALL)
    assert contents(first) == contents(second)
    picture = 'JPEGImages/train_0000.jpg'
    assert contents(first)[picture] != contents(third)[picture]
    assert contents(first)[picture] != contents(first)['JPEGImages/val_0000.jpg']


def test_more_pictures_leave_the_first_ones_as_they_are(tmp_path):
    synthetic.ensure_synthetic(str(tmp_path / 'a'), **SMALL)
    synthetic.ensure_synthetic(str(tmp_path / 'b'), **dict(SMALL, num_train=8))
    few, many = contents(tmp_path / 'a'), contents(tmp_path / 'b')
    assert all(many[name] == data for name, data in few.items() if name.startswith('JPEGImages'))


def test_data_is_in_order(tmp_path):
    root = str(tmp_path / 'demo')
    synthetic.ensure_synthetic(root, **SMALL)
    report = check_data(root, classes=synthetic.CLASSES)
    assert report.ok and not [text for text in report.warnings if 'mask' in text]
    assert sorted(os.listdir(tmp_path)) == ['demo']
    assert os.stat(root).st_mode & 0o055 == os.stat(tmp_path / 'demo' / 'JPEGImages').st_mode & 0o055


def test_objects_have_edges_companions_and_grounds():
    pictures, masks = zip(*(synthetic.draw_picture(np.random.default_rng(seed)) for seed in range(150)))
    assert all(picture.shape == (96, 128, 3) and picture.dtype == np.uint8 for picture in pictures)
    foreground = np.mean([mask > 0 for mask in masks])
    assert 0.12 < foreground < 0.35
    sets = [set(np.unique(mask)) - {0} for mask in masks]
    assert all(sets) and max(map(len, sets)) == 3
    badge, kite, tent = (synthetic.CLASSES.index(name) + 1 for name in ('badge', 'kite', 'tent'))
    with_badge = [found for found in sets if badge in found]
    assert sum(kite in found for found in with_badge) > 2 * sum(tent in found for found in with_badge)
    # Colours change more where the mask does than elsewhere: refinement has edges to hold on to.
    across, within = [], []
    for picture, mask in zip(pictures, masks):
        step = np.abs(np.diff(picture.astype(int), axis=1)).sum(2)
        edge = np.diff(mask.astype(int), axis=1) != 0
        across.append(step[edge].mean())
        within.append(step[~edge].mean())
    assert np.mean(across) > 4 * np.mean(within)


def test_existing_data(tmp_path):
    root = str(tmp_path / 'demo')
    os.mkdir(root)
    assert synthetic.ensure_synthetic(root, **SMALL)
    assert not synthetic.ensure_synthetic(root, **SMALL)
    with pytest.raises(UserError, match='Remove the folder or choose another'):
        synthetic.ensure_synthetic(root, seed=5, **SMALL)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'thesis.txt').touch()
    with pytest.raises(UserError, match='something else'):
        synthetic.ensure_synthetic(str(tmp_path / 'other'), **SMALL)
    with pytest.raises(UserError, match='at least 32'):
        synthetic.ensure_synthetic(str(tmp_path / 'new'), image_size=(16, 16))


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(json, 'dump', fail)
    with pytest.raises(OSError, match='disk full'):
        synthetic.ensure_synthetic(str(tmp_path / 'demo'), **SMALL)
    assert os.listdir(tmp_path) == []


def _draw(root, barrier, results):
    barrier.wait()
    results.put(synthetic.ensure_synthetic(root, **SMALL))


def test_two_processes_at_once(tmp_path):
    root = str(tmp_path / 'demo')
    context = multiprocessing.get_context('fork')
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_draw, args=(root, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    made = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(made) == [False, True]
    assert os.listdir(tmp_path) == ['demo']
    assert check_data(root).ok


def test_dataset_draws_on_first_use_only(tmp_path):
    root = str(tmp_path / 'data' / 'demo')
    config = dict(type='SyntheticWSSSDataset', data_root=root, ann_file='ImageSets/Segmentation/train.txt', **SMALL)
    dataset = DATASETS.build(dict(config, lazy_init=True))
    assert not os.path.exists(root)
    dataset.full_init()
    assert len(dataset) == 6
    shutil.rmtree(os.path.join(root, 'SegmentationClass'))
    again = DATASETS.build(config)
    labels = np.stack([again.get_data_info(index)['image_labels'] for index in range(6)])
    assert labels.shape == (6, 6) and labels.any(1).all()


def test_masks_are_palette_pictures(tmp_path):
    synthetic.ensure_synthetic(str(tmp_path / 'demo'), **SMALL)
    mask = Image.open(tmp_path / 'demo' / 'SegmentationClass' / 'val_0000.png')
    assert mask.mode == 'P' and mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
