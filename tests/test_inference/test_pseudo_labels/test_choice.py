import json
import os

import pytest

from csrm_plugin.datasets.label_folder import read_manifest
from csrm_plugin.inference.evaluate_labels import evaluate_label_folder
from csrm_plugin.inference.pseudo_labels.choice import chosen_threshold
from csrm_plugin.utils import MissingFileError, UserError, write_json


@pytest.fixture
def curve(tmp_path):
    """A curve of three points, of val, on the disk."""
    points = [dict(threshold=value, miou=miou) for value, miou in ((0.1, 30.0), (0.35, 42.0), (0.5, 41.0))]
    path = tmp_path / 'curve.json'
    write_json(path, dict(curve=points, best=dict(threshold=0.35, miou=42.0), context=dict(split='val')))
    return str(path)


def test_the_best_of_a_curve_is_taken_with_the_name_of_its_split(curve):
    assert chosen_threshold(curve, 'cam') == dict(threshold=0.35, threshold_chosen_on='val')


@pytest.mark.parametrize(
    ('source', 'threshold', 'message'),
    [('seg', None, '--threshold-from is for CAMs, not for --source seg'), ('cam', 0.3, '--threshold 0.3 and .* both')],
)
def test_what_makes_no_sense_is_refused(curve, source, threshold, message):
    with pytest.raises(UserError, match=message):
        chosen_threshold(curve, source, threshold)


@pytest.mark.parametrize('content', ['{', '[]', '{"miou": 3}', '{"curve": [], "best": null, "context": {}}'])
def test_a_file_without_a_curve_is_named(tmp_path, content):
    path = tmp_path / 'scores.json'
    path.write_text(content)
    with pytest.raises(UserError, match=r'scores\.json` holds no curve over thresholds; make it with'):
        chosen_threshold(str(path), 'cam')
    path.unlink()
    with pytest.raises(MissingFileError, match=r'scores\.json` does not exist; make it with'):
        chosen_threshold(str(path), 'cam')


def test_labels_of_another_split_are_cut_at_it_and_say_so(make, demo_root, tmp_path):
    """From the CAMs of val to the labels of train: their scores name the split that was chosen on."""
    make(out='choice', split='val', save_cams=True)
    folder = os.fspath(demo_root)
    masks, lists = os.path.join(folder, 'SegmentationClass'), os.path.join(folder, 'ImageSets', 'Segmentation')
    report = evaluate_label_folder(
        str(tmp_path / 'choice'), masks, os.path.join(lists, 'val.txt'), thresholds='0.1:0.9:0.1'
    )
    (tmp_path / 'curve.json').write_text(json.dumps(report))
    settings = dict(source='cam', scales=(0.5, 1), flip=True, threshold_from=str(tmp_path / 'curve.json'))
    make(out='labels', crf_out=str(tmp_path / 'crf'), settings=settings)
    best = max(report['curve'], key=lambda point: point['miou'])['threshold']
    for name in ('labels', 'crf'):
        manifest = read_manifest(str(tmp_path / name))['settings']
        assert (manifest['threshold'], manifest['threshold_chosen_on']) == (best, 'val')
        scored = evaluate_label_folder(str(tmp_path / name), masks, os.path.join(lists, 'train.txt'))
        assert scored['context']['threshold_chosen_on'] == 'val'
    assert 'threshold_chosen_on' not in read_manifest(str(tmp_path / 'choice'))['settings']
