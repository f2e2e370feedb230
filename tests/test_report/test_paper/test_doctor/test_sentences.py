import pytest


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('seed', 1, 'the seed differs (1 against 0)'),
        ('versions', {'torch': '2.11.0'}, 'versions differ: torch 2.11.0 against 2.13.0, numpy none against 2.4.6'),
    ],
)
def test_other_scores_with_the_same_choices_are_told_apart(run, other, key, value, words, card_of, compare, lower):
    card_of(run, 'csrm')[key] = value
    lower(run, 'csrm', 'train', 1)
    _, sentence = compare(run, other)
    assert f'Same data, inputs, settings and code, but other scores: {words}.' in sentence


def test_nothing_that_differs_is_told_too(run, other, compare, lower):
    lower(run, 'csrm', 'train', 1)
    _, sentence = compare(run, other)
    assert 'Its data, inputs, settings, code, seed and versions agree; nothing that the cards hold differs' in sentence


def test_the_first_stage_is_named_with_what_it_stands_on(run, other, card_of, compare, lower):
    card_of(run, 'data')['data']['split train']['pictures'] = 270
    card_of(run, 'classifier')['config']['settings']['lr'] = 0.3
    for stage in ('classifier', 'csrm'):
        card_of(run, stage)['seed'] = 7
    card_of(run, 'table')['config']['settings']['lr'] = 0.4
    lower(run, 'csrm', 'val', 2)
    lower(run, 'labels_csrm', 'train', 2, 'miou')
    _, sentence = compare(run, other)
    first, rest = sentence.split('It stands on data, where ')
    assert first.startswith('First stage that is off: csrm: pseudo/mIoU val 43.0 against 45.0 (-2.0).')
    assert first.count('the seed differs') == 1
    data, rest = rest.split(' It stands on classifier, where ')
    assert data == 'data differ: train 270 against 276 pictures.'
    assert rest == '1 setting differs: lr 0.3 against 0.1. Also off: labels_csrm.'


def test_stages_further_down_are_told_as_well(run, other, card_of, compare, lower):
    card_of(run, 'data')['data']['split train']['pictures'] = 270
    lower(run, 'labels_csrm', 'train', 2, 'miou')
    _, sentence = compare(run, other)
    assert sentence.endswith(' It stands on data, where data differ: train 270 against 276 pictures.')
    lower(run, 'labels_csrm', 'train', -2, 'miou')
    lower(run, 'classifier', 'train', 2)
    card_of(run, 'csrm')['config']['settings']['lr'] = 0.3
    assert 'lr' not in compare(run, other)[1]  # the classifier does not stand on CSRM
