import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from csrm_plugin.functional import normalize_cam
from csrm_plugin.inference.predictor import Prediction
from csrm_plugin.inference.pseudo_labels import (
    LabelSettings,
    crf_options,
    labels_of,
    make_pseudo_labels,
    make_task,
)
from csrm_plugin.refine import DenseCRF, dense_crf
from csrm_plugin.utils import MissingFileError, UserError

CAM = torch.tensor([[[4.0, 2.0, -1.0]], [[0.0, 9.0, 3.0]], [[1.0, 1.0, 2.0]]])  # (C, h, w) = (3, 1, 3)
INFO = dict(img_path='none.jpg', img_id='none', image_labels=np.array([1, 0, 1], dtype=np.float32))


def settings(**given):
    return LabelSettings(**{'source': 'cam', 'threshold': 0.5, **given})


def labels(prediction, **given):
    how = settings(**given)
    return labels_of(make_task(prediction, INFO, [('x.png', how)], [[0, 0, 0]] * 4), how).tolist()


def prediction(**given):
    return Prediction(**{**dict(cam=CAM, probs=None, scores=None, tile=None), **given})


def test_cam_labels_by_hand():
    # Of the picture's classes 0 and 2, normalised: [1, .5, 0] and [.5, .5, 1]; class 1, the strongest, is not there.
    assert labels(prediction()) == [[1, 0, 3]]  # the background wins the tie at 0.5
    assert labels(prediction(), threshold=0.4) == [[1, 1, 3]]
    assert labels(prediction(), threshold=0.5, bg_threshold=0.4) == [[1, 255, 3]]
    assert labels(prediction(), threshold=1.0) == [[0, 0, 0]]


def test_without_labels_the_classifier_says_which_classes_there_are():
    seen = prediction(scores=torch.tensor([0.1, 0.9, 0.2]))
    assert labels(seen, restrict='classifier') == [[0, 2, 0]]
    assert labels(seen, restrict='classifier', score_threshold=0.95) == [[0, 0, 0]]


def test_segmentation_labels_by_hand():
    probs = torch.tensor([[[0.30, 0.10, 0.05]], [[0.20, 0.15, 0.15]], [[0.40, 0.60, 0.20]], [[0.10, 0.15, 0.60]]])
    seg = prediction(probs=probs)
    # Without class 1 (label 2): [.5, .333, .167], [.25, .375, .375] and [.0625, .1875, .75].
    assert labels(seg, source='seg', threshold=None) == [[0, 1, 3]]
    assert labels(seg, source='seg', threshold=0.6) == [[255, 255, 3]]
    assert labels(seg, source='seg', threshold=None, restrict='none') == [[2, 2, 3]]


def test_a_picture_without_classes_is_background():
    empty = dict(INFO, image_labels=np.zeros(3, dtype=np.float32))
    for source in ('cam', 'seg'):
        how = settings(source=source, threshold=0.5 if source == 'cam' else None, crf=None)
        task = make_task(prediction(probs=torch.full((4, 1, 3), 0.25)), empty, [('x.png', how)], [[0, 0, 0]] * 4)
        assert (labels_of(task, how) == 0).all()


def test_refined_labels_are_those_of_the_public_functions(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    image[:, 5:] //= 4
    Image.fromarray(image).save(tmp_path / 'p.png')
    info = dict(INFO, img_path=str(tmp_path / 'p.png'))
    cam, probs = torch.from_numpy(rng.normal(size=(3, 12, 10))).float(), torch.rand(4, 12, 10).softmax(dim=0)
    options = crf_options(dict(iterations=3))

    how = settings(crf=options)
    ours = labels_of(make_task(prediction(cam=cam), info, [('x.png', how)], [[0, 0, 0]] * 4), how)
    own = normalize_cam(cam[None])[0, [0, 2]].numpy()
    hard = np.concatenate([np.full((1, 12, 10), 0.5, np.float32), own]).argmax(axis=0)
    expected = DenseCRF(iterations=3).refine_labels([image], [hard[None]], [3])[0][0]
    assert (ours == np.array([0, 1, 3])[expected]).all() and (ours != np.array([0, 1, 3])[hard]).any()

    how = settings(source='seg', threshold=None, crf=options)
    ours = labels_of(make_task(prediction(probs=probs), info, [('x.png', how)], [[0, 0, 0]] * 4), how)
    own = probs[[0, 1, 3]]
    expected = dense_crf(image, (own / own.sum(dim=0)).numpy(), iterations=3).argmax(axis=0)
    assert (ours == np.array([0, 1, 3])[expected]).all()


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(threshold=1.2), r'--threshold must be in 0\.\.1, but is 1\.2'),
        (dict(threshold=-0.1), r'--threshold must be in 0\.\.1'),
        (dict(threshold=None), '--threshold .* is needed'),
        (dict(bg_threshold=0.6), 'must not be above `fg_threshold`'),
        (dict(source='x'), "--source must be one of 'cam', 'seg', 'propagated'"),
        (dict(scales=()), '--scales must be factors'),
        (dict(scales=(0.5, 0)), '--scales must be factors'),
        (dict(source='seg', bg_threshold=0.1), '--bg-threshold is for CAMs'),
        (dict(restrict='none'), 'CAMs need a set of classes'),
        (dict(source='seg', restrict='classifier'), '--source seg is restricted'),
        (dict(restrict='all'), '`restrict` must be one of'),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        settings(**given)
    with pytest.raises(UserError, match='`sxy` is no setting of dCRF; known: iterations'):
        crf_options(dict(sxy=3))


def test_a_model_without_the_source_is_told():
    with pytest.raises(UserError, match='no segmentation branch; use --source cam'):
        labels(prediction(), source='seg', threshold=None)
    with pytest.raises(UserError, match='gives no CAMs; use --source seg or --source propagated'):
        labels(prediction(cam=None, probs=torch.full((4, 1, 3), 0.25), propagated=CAM))
    with pytest.raises(UserError, match=r'propagates no CAMs; use --source cam$'):
        labels(prediction(), source='propagated')


@pytest.fixture
def make(root, demo_options, checkpoint_of, tmp_path):
    """Function: labels of the small demo data by a network with random weights."""

    def call(name='csrm_demo', out='out', **given):
        given.setdefault('workers', 0)
        given.setdefault('settings', dict(source='cam', threshold=0.3, scales=(0.5, 1), flip=True))
        config = str(root / 'mmcfg' / f'{name}.py')
        return make_pseudo_labels(config, checkpoint_of(name), str(tmp_path / out), cfg_options=demo_options, **given)

    return call


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
    # A file that is gone and one that is cut are made again, the rest is left alone.
    paths = sorted((tmp_path / 'b').glob('*.png'))
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:30])
    os.utime(paths[2], (1, 1))
    assert make(out='b')['made'] == 2
    assert same(whole, pngs(tmp_path / 'b')) and paths[2].stat().st_mtime == 1
    assert make(out='b')['made'] == 0


def test_both_sets_of_one_inference_are_those_of_two(make, tmp_path):
    how = dict(source='seg', scales=(1,))
    make(out='plain', settings=how)
    make(out='crf', settings=dict(how, crf={}))
    make(out='both', settings=how, crf_out=str(tmp_path / 'both_crf'))
    assert same(pngs(tmp_path / 'plain'), pngs(tmp_path / 'both'))
    assert same(pngs(tmp_path / 'crf'), pngs(tmp_path / 'both_crf'))
    manifests = [json.loads((tmp_path / name / 'labels.json').read_text()) for name in ('both', 'both_crf')]
    assert manifests[0]['settings']['crf'] is False and manifests[1]['settings']['crf']['iterations'] == 10
    with pytest.raises(UserError, match='--crf-out must be another folder'):
        make(out='both', settings=how, crf_out=str(tmp_path / 'both'))


def test_saved_cams_give_the_labels(make, tmp_path):
    make(save_cams=True, workers=1)
    for name, labels in pngs(tmp_path / 'out').items():
        with np.load(tmp_path / 'out' / 'cams' / name.replace('.png', '.npz')) as saved:
            cams, classes = saved['cams'], saved['classes']
        assert cams.dtype == np.float16 and cams.shape == (len(classes), 40, 48) and cams.max(initial=0) <= 1
        scores = np.concatenate([np.full((1, 40, 48), 0.3, np.float32), cams])
        from_cams = np.array([0, *(classes + 1)])[scores.argmax(axis=0)]
        assert (from_cams == labels).mean() > 0.99  # but for rounding to half precision at the threshold


def test_the_manifest_says_what_labels_stand_on(make, tmp_path):
    make()
    manifest = json.loads((tmp_path / 'out' / 'labels.json').read_text())
    how = manifest['settings']
    assert manifest['classes'][0] == 'background' and len(manifest['palette']) == len(manifest['classes'])
    assert (how['source'], how['scales'], how['flip'], how['crf']) == ('cam', [0.5, 1], True, False)
    assert (how['threshold'], how['restricted'], how['weights']) == (0.3, 'labels', 'teacher')
    assert how['config'] == 'csrm_demo.py' and len(how['checkpoint_sha256']) == 64
    with pytest.raises(UserError, match=r'made with other settings \(threshold: 0\.3 there, 0\.4 now\)'):
        make(settings=dict(source='cam', threshold=0.4, scales=(0.5, 1), flip=True))
    with pytest.raises(UserError, match=r'made with other settings'):
        make(settings=dict(source='cam', threshold=0.3, scales=(0.5, 1)))


def test_the_config_gives_what_is_not_asked_for(make, tmp_path):
    make('cam_demo', out='cam', settings={})
    how = json.loads((tmp_path / 'cam' / 'labels.json').read_text())['settings']
    assert (how['source'], how['threshold'], how['weights']) == ('cam', 0.15, 'CAMClassifier')
    make(out='csrm', settings={}, split='val')
    how = json.loads((tmp_path / 'csrm' / 'labels.json').read_text())['settings']
    assert (how['source'], how['threshold'], how['restricted']) == ('seg', None, 'labels')
    assert len(pngs(tmp_path / 'csrm')) == 3


def test_a_split_without_labels_or_list_is_an_error_and_nothing_is_written(make, tmp_path, demo_root):
    with pytest.raises(MissingFileError, match=r'Split list .*nosuch.txt does not exist; the folder has the splits'):
        make(split='nosuch')
    (demo_root / 'ImageSets' / 'Segmentation' / 'bare.txt').write_text('train_0000\n')
    with pytest.raises(UserError, match=r'image-level labels|picture'):
        make(split='bare')
    assert not (tmp_path / 'out').exists()


def test_pictures_and_foreign_files_are_never_overwritten(make, tmp_path, demo_root):
    with pytest.raises(UserError, match='holds the pictures themselves'):
        make(out=str(demo_root / 'JPEGImages'))
    (tmp_path / 'gt').mkdir()
    Image.new('P', (48, 40)).save(tmp_path / 'gt' / 'val_0000.png')
    with pytest.raises(UserError, match='holds PNG files, but no'):
        make(out='gt')


def test_saved_cams_that_are_cut_are_made_again(make, tmp_path):
    make(save_cams=True)
    first, second = sorted((tmp_path / 'out' / 'cams').glob('*.npz'))[:2]
    first.write_bytes(first.read_bytes()[:40])
    second.write_bytes(b'')
    assert make(save_cams=True)['made'] == 2


def test_pictures_that_were_cut_are_remembered(make, tmp_path):
    given = dict(settings=dict(source='seg', scales=(3,)), tile=128)
    assert len(make(**given)['tiled']) == 4
    next((tmp_path / 'out').glob('*.png')).unlink()
    assert len(make(**given)['tiled']) == 4  # also those that an earlier call made


def test_unknown_devices_are_told(make):
    with pytest.raises(UserError, match='--device foo: '):
        make(device='foo')


def test_without_labels_any_class_may_come(make, tmp_path):
    make(settings=dict(source='seg', unrestricted=True))
    how = json.loads((tmp_path / 'out' / 'labels.json').read_text())['settings']
    assert how['restricted'] == 'none'
    make(out='cam', settings=dict(source='cam', threshold=0.2, unrestricted=True))
    how = json.loads((tmp_path / 'cam' / 'labels.json').read_text())['settings']
    assert (how['restricted'], how['score_threshold']) == ('classifier', 0.5)
