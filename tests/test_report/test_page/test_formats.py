import argparse
import shlex

import pytest

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.report.page import formats

CONTEXT = dict(
    split='val',
    pictures=48,
    scales=[0.5, 1.0],
    flip=True,
    crf=False,
    weights='teacher',
    pseudo_label={'source': 'cam', 'threshold': 0.15},
)


def test_numbers():
    found = [formats.percent(value) for value in (43.25, 100, None, float('nan'))]
    assert found == ['43.2%', '100.0%', formats.NONE, formats.NONE]
    assert [formats.number(value) for value in (0, 12345, 0.0123456, 5.0, True, None)] == [
        '0',
        '12\u202f345',
        '0.01235',
        '5',
        formats.NONE,
        formats.NONE,
    ]


def test_times_and_memory():
    found = [formats.duration(seconds) for seconds in (0.04, 41, 59.6, 221.4, 3599.7, 7500, None)]
    assert found == ['0.0 s', '41 s', '1 min 00 s', '3 min 41 s', '1 h 00 min', '2 h 05 min', formats.NONE]
    assert [formats.memory(value) for value in (812.4, 3277, None)] == ['812 MiB', '3.2 GiB', formats.NONE]
    assert formats.moment('2026-11-22T19:26:35.151+00:00') == '2026-11-22 19:26 UTC'
    assert formats.moment(None) == formats.NONE


def test_counts():
    assert [formats.count(*pair) for pair in ((1, 'run'), (2, 'run'), (2, 'study'), (2, 'process'))] == [
        '1 run',
        '2 runs',
        '2 studies',
        '2 processes',
    ]


@pytest.mark.parametrize(
    'value',
    [
        0.15,
        1e-05,
        True,
        None,
        'AdamW',
        'two words',
        'a,b',
        [0.1, 0.2],
        [1, [2, 3]],
        {'a': 0.1, 'b': [1]},
        "it's",
        '$HOME',
    ],
)
def test_options_are_read_back_as_they_were(value):
    """Through a shell and through the reader of ``--cfg-options``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction)
    words = shlex.split(formats.option('model.a', value))
    assert parser.parse_args(['--cfg-options', *words]).cfg_options == {'model.a': value}


def test_context_of_scores():
    metrics = {'cam/threshold': 0.3}
    found = formats.score_context('cam/mIoU', CONTEXT, metrics)
    assert found == (
        'val, 48 pictures, best threshold 0.3, chosen with the masks, classes restricted to the image labels, '
        "scales 0.5 1, flip, no dCRF, teacher's weights"
    )
    assert 'CAM at the fixed threshold 0.15, classes restricted' in formats.score_context(
        'pseudo/mIoU', CONTEXT, metrics
    )
    assert 'no labels given' in formats.score_context('seg/mIoU', CONTEXT, metrics)
    segmentation = {**CONTEXT, 'pseudo_label': {'source': 'seg', 'threshold': None}}
    assert 'from the segmentation' in formats.score_context('pseudo/mIoU', segmentation, metrics)
    assert formats.score_context('mIoU', {}, {}) == 'split not recorded'
