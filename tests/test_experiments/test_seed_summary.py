import math

import pytest

from csrm_plugin.experiments.seed_summary import footnote, summarise


def test_mean_and_standard_deviation_by_hand():
    scores = {
        seed: {'val': {'seg/mIoU': value, 'cls/mAP': None if seed else 1.0}} for seed, value in enumerate((1, 2, 6))
    }
    entry = summarise(scores)['val']
    assert entry['seg/mIoU']['mean'] == 3
    assert entry['seg/mIoU']['std'] == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert entry['cls/mAP'] == dict(mean=None, std=None, values=[1.0, None, None])  # not every seed has it
    assert summarise({5: {'val': {'seg/mIoU': 7.0}}})['val']['seg/mIoU']['std'] is None


def test_the_footnote_names_seeds_that_were_resumed():
    result = dict(seeds=[0, 1], resumed=[1], context={'val': dict(pictures=3)})
    assert 'interrupted and resumed, which changes the numbers a little: 1; val: 3 pictures.' in footnote(result)
    assert 'resumed' not in footnote({**result, 'resumed': []})
