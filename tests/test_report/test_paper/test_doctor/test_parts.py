import pytest

from csrm_plugin.report.paper import doctor, published


def change_setting(card):
    card['config']['settings'] |= {'lr': 0.2, 'new': None}
    del card['config']['settings']['model.width']


CHANGES = {
    'settings': (
        change_setting,
        '3 settings differ: lr 0.2 against 0.1, model.width not set against 64, new None against not set',
    ),
    'context': (
        lambda card: card['context'].update(scales=[0.5, 1.0]),
        '1 setting differs: context.scales [0.5, 1.0] against [1.0]',
    ),
    'data': (lambda card: card['data']['split train'].update(pictures=275), 'train 275 against 276 pictures'),
    'content': (lambda card: card['data']['split train'].update(hash='e'), 'train (as many pictures, but other'),
    'split': (lambda card: card['data'].update(extra={'pictures': 3}), 'extra 3 against no pictures'),
    'inputs': (lambda card: card['inputs'].update(classifier='x'), 'the outcome of classifier, which it stands on,'),
    'code': (lambda card: card.update(key_parts={'code': 'd'}, git=None), 'the code differs (d against abc)'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_each_kind_of_difference_is_found_and_told(run, other, change, card_of, compare, lower):
    make, words = CHANGES[change]
    make(card_of(run, 'csrm'))
    part = {'context': 'settings', 'content': 'data', 'split': 'data'}.get(change, change)
    findings, sentence = compare(run, other)
    assert [part for part in doctor.PARTS if findings['csrm'][part]] == [part]
    assert findings['csrm']['state'] == 'differs' and findings['classifier']['state'] == 'same'
    assert sentence.startswith('Nothing is off') and 'other than scores differs in csrm.' in sentence
    lower(run, 'csrm', 'train', 3.5)
    findings, sentence = compare(run, other)
    assert findings['csrm']['state'] == 'off'
    assert sentence.startswith('First stage that is off: csrm: pseudo/mIoU train 46.5 against 50.0 (-3.5). Its ')
    assert words in sentence
    assert 'Same ' not in sentence


def test_parts_that_a_card_lacks_are_unknown_not_agreeing(run, other, card_of, compare, lower):
    card_of(run, 'csrm').update(key_parts=None, seed=None, versions=None, inputs=None)
    lower(run, 'csrm', 'train', 1)
    findings, sentence = compare(run, other)
    assert findings['csrm']['known'] == ['data', 'settings']
    assert '(inputs, code, seed and versions: not on both cards).' in sentence


def test_splits_of_the_paper_that_a_run_does_not_use_do_not_matter(card_of, compare, paper_run):
    run = paper_run()
    del card_of(run, 'csrm')['data']['train']
    card_of(run, 'csrm')['data'] |= {'mine': {'pictures': 3, 'hash': 'h'}}
    card_of(run, 'csrm')['data']['split val'] = card_of(run, 'csrm')['data'].pop('val') | {'pictures': 1448}
    findings, _ = compare(run, published.paper_card_run('voc'))
    assert findings['csrm']['data'] == [{'data': 'val', 'here': 1448, 'there': 1449}]
