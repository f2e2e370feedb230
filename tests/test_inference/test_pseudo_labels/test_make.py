import json

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.utils import MissingFileError, UserError


def pngs(folder):
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.glob('*.png'))}


def same(one, other):
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


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


def test_views_that_a_model_has_by_itself_are_told(make, tmp_path):
    """RML's propagated CAMs are of three scales with flip, whatever it is shown; its plain ones are of what it sees."""
    make('rml_demo', out='own', settings=dict(source='propagated'))
    own = json.loads((tmp_path / 'own' / 'labels.json').read_text())['settings']['own_views']
    assert own == dict(scales=[0.75, 1, 1.25], flip=True)
    make('rml_demo', out='plain', settings=dict(source='cam', threshold=0.3))
    assert 'own_views' not in json.loads((tmp_path / 'plain' / 'labels.json').read_text())['settings']
