"""Which pictures are drawn. (That they are drawn is tested with the record, in one training.)"""

import pytest

from csrm_plugin.engine.hooks import SamplePicturesHook
from csrm_plugin.engine.hooks.sample_pictures_hook import extremes, spread
from csrm_plugin.utils import UserError


@pytest.mark.parametrize(
    ('length', 'count', 'expected'),
    [(10, 4, [0, 3, 6, 9]), (2, 4, [0, 1]), (5, 1, [0]), (0, 3, []), (7, 0, []), (3, 3, [0, 1, 2])],
)
def test_fixed_pictures_are_spread_evenly(length, count, expected):
    assert spread(length, count) == expected


def test_extremes_are_the_best_the_middle_and_the_worst():
    scores = [10, 90, None, 50, 30, 70, 20, 80, 60, 40]
    assert extremes(scores, 2) == [('best', 1), ('best', 7), ('median', 8), ('median', 3), ('worst', 0), ('worst', 6)]


@pytest.mark.parametrize(('scores', 'roles'), [([], []), ([None], []), ([5], ['best']), ([5, 4], ['best', 'worst'])])
def test_extremes_of_few_pictures_name_none_twice(scores, roles):
    chosen = extremes(scores, 3)
    assert [role for role, _ in chosen] == roles
    assert len({index for _, index in chosen}) == len(chosen)


@pytest.mark.parametrize('settings', [dict(count=-1), dict(extremes=-1), dict(interval=0)])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError, match='SamplePicturesHook'):
        SamplePicturesHook(**settings)
