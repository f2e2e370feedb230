import os

import pytest

from csrm_plugin.experiments.pipeline import cards
from csrm_plugin.utils import UserError


def card(stage='csrm', number=1, **parts):
    """The least that a card may be."""
    return dict(stage=stage, kind='train', run='demo', number=number, status='done', **parts)


def test_how_a_threshold_was_chosen_is_told():
    choice = dict(split='val', threshold=0.15, miou=62.34, pictures=48, curve=[])
    assert cards.choice_line(choice) == (
        'threshold 0.15, chosen with the masks of val (48 pictures): there the CAMs have mIoU 62.3 without dCRF.'
    )
    choice |= dict(miou=None, pictures=None)
    assert cards.choice_line(choice) == (
        'val has no masks to choose a threshold with: 0.15 is the fixed one of the pipeline.'
    )


def test_card_is_read_as_it_was_written(tmp_path):
    written = card(scores={'train': {'pseudo/mIoU': 48.7}}, time={'seconds': float('nan')}, git=None)
    path = cards.write_card(tmp_path / 'run' / 'csrm', written)
    assert path == str(tmp_path / 'run' / 'csrm' / 'card.json')
    assert cards.read_card(tmp_path / 'run' / 'csrm') == {**written, 'time': {'seconds': None}}
    assert os.listdir(tmp_path / 'run' / 'csrm') == ['card.json']


def test_no_card_is_none_and_an_incomplete_one_is_not_written(tmp_path):
    assert cards.read_card(tmp_path) is None
    with pytest.raises(ValueError, match='lacks kind, run'):
        cards.write_card(tmp_path, {'stage': 'csrm', 'number': 1, 'status': 'done'})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"stage": ', 'no JSON'),
        ('[1]', 'JSON object'),
        ('{"stage": "csrm"}', 'lacks kind, run, number, status'),
        ('{"stage": "a", "kind": "b", "run": "c", "number": 1, "status": "done", "scores": [1]}', '`scores` is no'),
        ('{"stage": "a", "kind": "b", "run": "c", "number": "1", "status": "done"}', "`number` is '1'"),
    ],
)
def test_broken_card_is_an_error_that_names_the_file(tmp_path, text, message):
    (tmp_path / 'card.json').write_text(text)
    with pytest.raises(UserError, match=message) as info:
        cards.read_card(tmp_path)
    assert str(tmp_path / 'card.json') in str(info.value)
