import pytest

from csrm_plugin.inference.pseudo_labels.settings import LabelSettings, crf_options
from csrm_plugin.utils import UserError


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
        (dict(crf=dict(unary='hard')), "unary= must be one of labels, probs, but is 'hard'"),
        (dict(crf=dict(unary='probs')), 'unary=probs is for --source seg'),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        LabelSettings(**{'source': 'cam', 'threshold': 0.5, **given})
    with pytest.raises(UserError, match='`sxy` is no setting of dCRF; known: iterations'):
        crf_options(dict(sxy=3))


def test_labels_are_refined_as_labels_and_predictions_as_probabilities():
    crf = crf_options({})
    assert LabelSettings('cam', threshold=0.5, crf=crf).crf['unary'] == 'labels'
    assert LabelSettings('seg', crf=crf).crf['unary'] == 'labels'
    assert LabelSettings('seg', crf=crf, restrict='none').crf['unary'] == 'probs'
    assert LabelSettings('seg', crf=dict(crf, unary='probs')).crf['unary'] == 'probs'
    assert LabelSettings('seg').crf is None
