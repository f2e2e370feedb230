import pytest

from csrm_plugin.inference.sam_masks import SamSettings
from csrm_plugin.utils import UserError


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(points_per_side=0), '--points-per-side must be at least 1'),
        (dict(crop_layers=-1), '--crop-layers must be at least 0'),
        (dict(pred_iou_thresh=1.1), '--pred-iou-thresh must be from 0 to 1, but is 1.1'),
        (dict(stability_score_thresh=-0.1), '--stability-score-thresh must be from 0 to 1'),
    ],
)
def test_settings(settings, message):
    with pytest.raises(UserError, match=message):
        SamSettings(**settings)
