import copy
import pickle

import numpy as np
import pytest
import torch

from csrm_plugin.functional import pixel_adaptive_refinement
from csrm_plugin.refine import PixelAdaptiveRefinement
from csrm_plugin.utils import UserError


def make_batch():
    return torch.randint(0, 256, (2, 3, 6, 7), dtype=torch.uint8), torch.rand(2, 4, 3, 4)


def test_equals_the_function_with_its_settings():
    images, masks = make_batch()
    torch.testing.assert_close(PixelAdaptiveRefinement()(images, masks), pixel_adaptive_refinement(images, masks))
    settings = dict(dilations=[1, 3], iterations=2, bandwidth=0.5, position_weight=0.1)
    refinement = PixelAdaptiveRefinement(**settings)
    expected = pixel_adaptive_refinement(images, masks, **settings)
    torch.testing.assert_close(refinement(images, masks), expected)
    assert not expected.equal(PixelAdaptiveRefinement()(images, masks))
    for duplicate in (copy.deepcopy(refinement), pickle.loads(pickle.dumps(refinement))):
        torch.testing.assert_close(duplicate(images, masks), expected)


def test_scores_of_pictures_with_channels_last():
    images, masks = make_batch()
    refinement = PixelAdaptiveRefinement()
    expected = refinement(images, masks)
    torch.testing.assert_close(refinement.refine_scores(images.permute(0, 2, 3, 1), masks), expected)
    result = refinement.refine_scores(np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()), masks)
    assert result.equal(expected)


def test_nothing_for_a_checkpoint_or_an_optimiser():
    refinement = PixelAdaptiveRefinement()
    assert not refinement.state_dict() and not list(refinement.parameters())
    assert 'dilations=(1, 2, 4, 8, 12, 24), iterations=10, bandwidth=0.3, position_weight=0.01' in repr(refinement)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(dilations=8), '`dilations`.*8'),
        (dict(iterations=-1), '`iterations`.*-1'),
        (dict(bandwidth=0), '`bandwidth`'),
        (dict(position_weight=-1), '`position_weight`'),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, message):
    with pytest.raises(UserError, match=message):
        PixelAdaptiveRefinement(**settings)
