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
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        LabelSettings(**{'source': 'cam', 'threshold': 0.5, **given})
    with pytest.raises(UserError, match='`sxy` is no setting of dCRF; known: iterations'):
        crf_options(dict(sxy=3))
