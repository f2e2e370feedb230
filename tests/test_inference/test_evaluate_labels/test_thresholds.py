import pytest

from csrm_plugin.inference.evaluate_labels.thresholds import parse_thresholds
from csrm_plugin.utils import UserError


@pytest.mark.parametrize(
    'text, values',
    [
        ('0.1:0.3:0.1', (0.1, 0.2, 0.3)),
        ('0:1:0.25', (0, 0.25, 0.5, 0.75, 1)),
        ('0.5:0.5:1', (0.5,)),
        ('.2:.35:.1', (0.2, 0.3)),
        ([0.3, 0.1, 0.3], (0.1, 0.3)),
    ],
)
def test_thresholds(text, values):
    assert parse_thresholds(text) == values


def test_the_usual_thresholds():
    from csrm_plugin.evaluation import CAM_THRESHOLDS

    assert parse_thresholds('0.05:0.95:0.05') == CAM_THRESHOLDS
    assert len(parse_thresholds('0:1:0.01')) == 101


@pytest.mark.parametrize(
    'text',
    [
        '',
        '0.1',
        '0.1:0.2',
        'a:b:c',
        '0:1:0',
        '0:1:-0.1',
        '0.5:0.1:0.1',
        '0:1.1:0.1',
        '-0.1:1:0.1',
        'nan:1:0.1',
        '0:1:nan',
        '0:1:1e-9',
        '0:1:1e-320',
        '0:0.1:0.1:0.1',
        (),
        [0.5, 1.5],
    ],
)
def test_malformed_thresholds(text):
    with pytest.raises(UserError, match='--thresholds'):
        parse_thresholds(text)
