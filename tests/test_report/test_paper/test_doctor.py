import copy
import io
import json

import pytest
from rich.console import Console

from csrm_plugin.experiments.pipeline.cards import write_card
from csrm_plugin.report.paper import doctor, published
from csrm_plugin.utils import MissingFileError, UserError


def make_card(stage, number, inputs=(), scores=None, **parts):
    """A finished card of a run on MSRC."""
    return dict(
        stage=stage,
        kind='train',
        run='msrc',
        dataset='msrc',
        number=number,
        status='done',
        seed=0,
        key=f'key of {stage}',
        key_parts={'code': 'c0' * 32},
        git={'revision': 'abc', 'dirty': False},
        config={'file': 'mmcfg/x.py', 'hash': 'h', 'settings': {'model.type': 'X', 'model.width': 64, 'lr': 0.1}},
        data={'split train': {'pictures': 276, 'hash': 'd'}},
        inputs={name: f'key of {name}' for name in inputs},
        versions={'torch': '2.13.0', 'numpy': '2.4.6'},
        context={'scales': [1.0], 'flip': False, 'crf': False},
        scores=scores or {},
        **parts,
    )


@pytest.fixture
def run():
    """Data, classifier, CSRM, its labels, and a table."""
    return [
        make_card('data', 1),
        make_card('classifier', 2, ['data'], {'train': {'pseudo/mIoU': 40.0, 'cam/mIoU': 42.0, 'cam/threshold': 0.3}}),
        make_card('csrm', 3, ['data', 'classifier'], {'train': {'pseudo/mIoU': 50.0}, 'val': {'pseudo/mIoU': 45.0}}),
        make_card('labels_csrm', 4, ['csrm'], {'train': {'miou': 52.0}, 'val': {'miou': 47.0}}),
        make_card('table', 5, ['labels_csrm']),
    ]


@pytest.fixture
def other(run):
    """The same once more, to change."""
    return copy.deepcopy(run)


def card_of(cards, stage):
    return next(card for card in cards if card['stage'] == stage)


def compare(run, other, **options):
    """Findings by stage, and the verdict."""
    findings = doctor.compare_runs(run, other, **options)
    json.dumps(findings, allow_nan=False)
    return {finding['stage']: finding for finding in findings}, doctor.verdict(findings)


def lower(run, stage, split, points, metric='pseudo/mIoU'):
    card_of(run, stage)['scores'][split][metric] -= points


def test_a_run_and_itself(run, other):
    findings, sentence = compare(run, other)
    assert [finding['state'] for finding in findings.values()] == ['same'] * 5
    assert not any(map(doctor.is_off, findings.values()))
    assert sentence.startswith('Nothing is off: in classifier, csrm, labels_csrm none is more than 0.5 points below')
    assert all(set(finding['known']) == set(doctor.PARTS) for finding in findings.values())


@pytest.mark.parametrize(
    ('points', 'tolerance', 'off'),
    [(0.5, 0.5, False), (0.51, 0.5, True), (0.51, 0.6, False), (0.01, 0, True), (-9, 0, False)],
)
def test_tolerance_is_for_scores_below(run, other, points, tolerance, off):
    lower(run, 'csrm', 'val', points)
    findings, _ = compare(run, other, tolerance=tolerance)
    assert doctor.is_off(findings['csrm']) is off
    val = findings['csrm']['scores'][1]
    assert (val['split'], val['metric'], val['there'], val['off']) == ('val', 'pseudo/mIoU', 45.0, off)
    assert val['difference'] == pytest.approx(-points)


@pytest.mark.parametrize('tolerance', [-1, float('nan')])
def test_tolerance_must_be_a_number_from_0(run, tolerance):
    with pytest.raises(UserError, match='tolerance'):
        doctor.compare_runs(run, run, tolerance)


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
def test_each_kind_of_difference_is_found_and_told(run, other, change):
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


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('seed', 1, 'the seed differs (1 against 0)'),
        ('versions', {'torch': '2.11.0'}, 'versions differ: torch 2.11.0 against 2.13.0, numpy none against 2.4.6'),
    ],
)
def test_other_scores_with_the_same_choices_are_told_apart(run, other, key, value, words):
    card_of(run, 'csrm')[key] = value
    lower(run, 'csrm', 'train', 1)
    _, sentence = compare(run, other)
    assert f'Same data, inputs, settings and code, but other scores: {words}.' in sentence


def test_nothing_that_differs_is_told_too(run, other):
    lower(run, 'csrm', 'train', 1)
    _, sentence = compare(run, other)
    assert 'Its data, inputs, settings, code, seed and versions agree; nothing that the cards hold differs' in sentence


def test_parts_that_a_card_lacks_are_unknown_not_agreeing(run, other):
    card_of(run, 'csrm').update(key_parts=None, seed=None, versions=None, inputs=None)
    lower(run, 'csrm', 'train', 1)
    findings, sentence = compare(run, other)
    assert findings['csrm']['known'] == ['data', 'settings']
    assert '(inputs, code, seed and versions: not on both cards).' in sentence


def test_the_first_stage_is_named_with_what_it_stands_on(run, other):
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


def test_stages_further_down_are_told_as_well(run, other):
    card_of(run, 'data')['data']['split train']['pictures'] = 270
    lower(run, 'labels_csrm', 'train', 2, 'miou')
    _, sentence = compare(run, other)
    assert sentence.endswith(' It stands on data, where data differ: train 270 against 276 pictures.')
    lower(run, 'labels_csrm', 'train', -2, 'miou')
    lower(run, 'classifier', 'train', 2)
    card_of(run, 'csrm')['config']['settings']['lr'] = 0.3
    assert 'lr' not in compare(run, other)[1]  # the classifier does not stand on CSRM


def test_many_settings_are_counted(run, other):
    card_of(run, 'csrm')['config']['settings'] |= {f'a{i:02d}': i for i in range(12)}
    lower(run, 'csrm', 'val', 2)
    findings, sentence = compare(run, other)
    assert len(findings['csrm']['settings']) == 12
    assert '12 settings differ: a00 0 against not set, ' in sentence
    assert 'a07 7 against not set, and 4 more' in sentence and 'a08' not in sentence


def test_a_part_that_is_switched_off_is_one_difference(run, other):
    card_of(run, 'csrm')['config']['settings']['model.loss_m'] = None
    card_of(other, 'csrm')['config']['settings'] |= {'model.loss_m.type': 'L', 'model.loss_m.draw.number': 50}
    findings, _ = compare(run, other)
    assert findings['csrm']['settings'] == [{'setting': 'model.loss_m', 'here': None, 'there': 'set'}]


def test_seed_in_the_settings_is_no_setting_and_numbers_compare_as_numbers(run, other):
    card_of(run, 'csrm')['config']['settings'] |= {'randomness.seed': 3, 'one': 1, 'yes': True}
    card_of(other, 'csrm')['config']['settings'] |= {'randomness.seed': 4, 'one': 1.0, 'yes': 1}
    findings, _ = compare(run, other)
    assert [entry['setting'] for entry in findings['csrm']['settings']] == ['yes']


def test_hashes_stand_in_where_settings_are_not_on_the_card(run, other):
    card_of(run, 'csrm')['config'] = {'hash': 'g'}
    findings, _ = compare(run, other)
    assert findings['csrm']['settings'] == [{'setting': 'config', 'here': 'g', 'there': 'h'}]


def test_scores_are_what_is_better_when_higher_at_one_threshold(run, other):
    card_of(run, 'classifier')['scores']['train'] |= {'cam/threshold': 0.1, 'cam/mIoU@0.05': 1.0, 'iou': {'cow': 1.0}}
    card_of(other, 'classifier')['scores']['train'] |= {'cam/mIoU@0.05': 9.0, 'seg/foreground': 70.0}
    findings, _ = compare(run, other)
    assert [score['metric'] for score in findings['classifier']['scores']] == ['pseudo/mIoU', 'cam/mIoU']
    assert findings['classifier']['state'] == 'same'


def test_scores_that_are_no_numbers_or_not_there(run, other):
    card_of(run, 'csrm')['scores']['train']['pseudo/mIoU'] = None  # NaN, as it is written
    findings, sentence = compare(run, other)
    assert findings['csrm']['state'] == 'off' and 'pseudo/mIoU train no number against 50.0' in sentence
    card_of(run, 'csrm')['scores'] = {'val': {'pseudo/mIoU': 45.0}}
    findings, _ = compare(run, other)
    assert findings['csrm']['state'] == 'same'
    card_of(run, 'csrm')['scores'] = {}
    findings, sentence = compare(run, other)
    assert findings['csrm']['state'] == 'unscored' and doctor.is_off(findings['csrm'])
    assert 'csrm: it holds none of the scores of the reference (pseudo/mIoU train, pseudo/mIoU val)' in sentence


def test_missing_stages_keep_their_place_and_count(run, other):
    run = [card for card in run if card['stage'] not in ('data', 'csrm')]
    findings, sentence = compare(run, other)
    assert list(findings) == ['data', 'classifier', 'csrm', 'labels_csrm', 'table']
    assert doctor.is_off(findings['csrm']) and findings['csrm']['state'] == 'missing'
    assert sentence.startswith('No score is off') and sentence.endswith('Not in this run: data, csrm.')


def test_more_stages_than_the_reference_are_fine(run, other):
    findings, _ = compare(run, other[:3])
    assert [finding['state'] for finding in findings.values()] == ['same', 'same', 'same', 'extra', 'extra']
    assert not any(map(doctor.is_off, findings.values()))


def test_unfinished_and_skipped_stages(run, other):
    card_of(run, 'csrm')['status'] = 'running'
    card_of(run, 'labels_csrm')['status'] = 'skipped'
    findings, sentence = compare(run, other)
    assert doctor.is_off(findings['csrm']) and not doctor.is_off(findings['labels_csrm'])
    assert sentence == (
        'First stage that is off: csrm: not finished (status running). Left out in this run: labels_csrm.'
    )
    findings, _ = compare(other, run)
    assert findings['csrm']['state'] == 'extra'


def test_optional_stages_of_the_reference_do_not_count():
    run = [card for card in paper_run() if 'sepl' not in card['stage']]
    findings, sentence = compare(run, published.paper_card_run('voc'))
    assert findings['labels_cam_sepl']['state'] == 'skipped'
    assert sentence.startswith('Nothing is off')
    assert sentence.endswith('Left out in this run: labels_cam_sepl, labels_csrm_crf_sepl.')


def test_a_stage_made_from_an_earlier_outcome_is_out_of_date(run, other):
    card_of(run, 'csrm')['key'] = 'a new key'
    findings, sentence = compare(run, other)
    assert {stage: finding['outdated'] for stage, finding in findings.items() if finding['outdated']} == {
        'labels_csrm': ['csrm']
    }
    assert sentence.endswith('Out of date: labels_csrm (by csrm); run the pipeline again.')
    assert 'made from an earlier csrm' in drawn(list(findings.values()))


def test_a_stage_that_has_begun_is_not_finished_and_keeps_its_place(run, other, write, tmp_path):
    folder = write('a', [card for card in run if card['stage'] != 'csrm'])
    for stage in ('csrm', 'new'):
        (tmp_path / 'a' / stage).mkdir()
        (tmp_path / 'a' / stage / 'key').write_text('k')
    (tmp_path / 'a' / 'table' / 'key').write_text('k')
    findings, sentence = compare(*doctor.load_pair(folder, write('b', other)))
    assert list(findings) == ['data', 'classifier', 'csrm', 'labels_csrm', 'table', 'new']
    assert [stage for stage in findings if findings[stage]['state'] == 'unfinished'] == ['csrm', 'new']
    assert sentence.startswith('First stage that is off: csrm: not finished (status interrupted).')


def test_other_parts_of_the_key_are_settings_too(run, other):
    card_of(run, 'csrm')['key_parts'] |= {'weights': {'W': 'a' * 64}, 'settings': 'b' * 64, 'data': 'x', 'mine': 1}
    card_of(other, 'csrm')['key_parts'] |= {'weights': {'W': 'c' * 64}, 'settings': 'b' * 64, 'data': 'y'}
    findings, _ = compare(run, other)
    assert findings['csrm']['settings'] == [{'setting': 'key.weights.W', 'here': 'a' * 12, 'there': 'c' * 12}]


def test_runs_without_a_common_stage_or_score(run, other):
    with pytest.raises(UserError, match='no stage in common: there are data in the run and table'):
        doctor.compare_runs(run[:1], other[-1:])
    assert compare(run[:1], other[:1])[1].startswith('No stage that both have holds a score')


def paper_run():
    """A run that has what the paper has."""
    cards = [copy.deepcopy(card) | {'status': 'done'} for card in published.paper_card_run('voc')]
    for card in cards:
        card['context'] = {
            'scales': [0.5, 1.0],
            'crf': {'iterations': 10} if card['context'].get('with_crf') else False,
        }
        for key in card.pop('defaults'):
            del card['config']['settings'][key]
    return cards


def test_a_run_like_the_paper_is_fine():
    findings, sentence = compare(paper_run(), published.paper_card_run('voc'))
    states = {stage: finding['state'] for stage, finding in findings.items()}
    assert set(states.values()) == {'same'}, states
    assert sentence.startswith('Nothing is off')


def test_a_run_that_falls_short_of_the_paper():
    run = paper_run()
    lower(run, 'csrm', 'train', 3.5)
    settings = card_of(run, 'csrm')['config']['settings']
    settings |= {'model.pseudo_label.fg_threshold': 0.3, 'model.momentum': 0.5, 'model.loss_m.num_queries': 256}
    card_of(run, 'csrm')['context'] |= {'scales': [1.0], 'flip': True}
    findings, sentence = compare(run, published.paper_card_run('voc'))
    assert findings['csrm']['known'] == ['data', 'settings']
    assert sentence == (
        'First stage that is off: csrm: pseudo/mIoU train 68.3 against 71.8 (-3.5). Its data agree; 3 settings differ: '
        'context.multi_scale False against True, model.loss_m.num_queries 256 against 50, '
        'model.pseudo_label.fg_threshold 0.3 against 0.35 (inputs, code, seed and versions: not known of the paper).'
    )


def test_splits_of_the_paper_that_a_run_does_not_use_do_not_matter():
    run = paper_run()
    del card_of(run, 'csrm')['data']['train']
    card_of(run, 'csrm')['data'] |= {'mine': {'pictures': 3, 'hash': 'h'}}
    card_of(run, 'csrm')['data']['split val'] = card_of(run, 'csrm')['data'].pop('val') | {'pictures': 1448}
    findings, _ = compare(run, published.paper_card_run('voc'))
    assert findings['csrm']['data'] == [{'data': 'val', 'here': 1448, 'there': 1449}]


def test_what_the_paper_sets_must_be_set_unless_it_is_our_default():
    run = paper_run()
    settings = card_of(run, 'csrm')['config']['settings']
    del settings['train_cfg.max_epochs'], settings['model.loss_m.loss_weight']
    settings['model.loss_m'] = None
    findings, _ = compare(run, published.paper_card_run('voc'))
    assert findings['csrm']['settings'] == [
        {'setting': 'model.loss_m', 'here': None, 'there': 'set'},
        {'setting': 'train_cfg.max_epochs', 'there': 15},
    ]


@pytest.fixture
def write(tmp_path):
    """Writes a run and gives its folder."""

    def write_run(name, cards):
        for card in cards:
            write_card(tmp_path / name / card['stage'], card)
        return str(tmp_path / name)

    return write_run


def test_pair_of_folders(run, other, write):
    here, there = doctor.load_pair(write('a', run), write('b', other))
    assert (here, there) == (run, other)


def test_a_single_stage_is_compared_with_that_stage(run, other, write, tmp_path):
    a, b = write('a', run), write('b', other)
    expected = ([card_of(run, 'csrm')], [card_of(other, 'csrm')])
    assert doctor.load_pair(f'{a}/csrm', b) == expected
    assert doctor.load_pair(f'{a}/csrm/card.json', f'{b}/csrm') == expected
    assert doctor.load_pair(a, f'{b}/csrm/card.json') == expected
    here, there = doctor.load_pair(f'{a}/csrm', f'{b}/classifier')  # both are trainings
    assert (here[0]['stage'], there[0]['stage'], there[0]['number']) == ('csrm', 'csrm', 2)
    card_of(other, 'classifier')['kind'] = 'labels'
    write('b', other)
    with pytest.raises(UserError, match='has no stage csrm; it has classifier'):
        doctor.load_pair(f'{a}/csrm', f'{b}/classifier')


def test_paper_is_the_reference_where_it_has_the_data_set(run, write):
    for card in run:
        card['dataset'] = 'coco'
    folder = write('a', run)
    for reference in (None, 'paper'):
        assert doctor.load_pair(folder, reference)[1] == published.paper_card_run('coco')
    for card in run:
        card['dataset'] = 'msrc'
    folder = write('b', run)
    with pytest.raises(UserError, match='not for the data set msrc: give a REFERENCE, that is the folder of another'):
        doctor.load_pair(folder)
    with pytest.raises(UserError, match=r'not for the data set msrc.* instead of `paper`'):
        doctor.load_pair(folder, 'paper')


def test_the_paper_is_no_reference_for_another_method(run, write):
    cards = [{**card, 'dataset': 'voc', 'inputs': {}} for card in run]
    names = {'classifier': 'rml', 'csrm': 'labels_rml', 'labels_csrm': 'labels_rml_crf', 'table': 'verify_masks'}
    for card in cards[1:]:
        card['stage'] = names[card['stage']]
        card['kind'] = {'rml': 'train', 'verify_masks': 'verify'}.get(card['stage'], 'labels')
    folder = write('a', [{**card, 'kind': 'data'} if card['stage'] == 'data' else card for card in cards])
    for reference in (None, 'paper'):
        with pytest.raises(UserError, match=r'has none \(it has labels_rml, labels_rml_crf, rml\): give a REF'):
            doctor.load_pair(folder, reference)


def test_networks_of_the_paper_follow_the_configs(write):
    run = paper_run()
    for stage, file in (('verify_csrm', 'mmcfg/deeplabv3plus_rs269_voc_pseudo.py'), ('verify_masks', 'mmcfg/fcn.py')):
        card_of(run, stage)['config']['file'] = file
    _, reference = doctor.load_pair(write('a', run))
    verify = {card['stage']: card['scores']['val'] for card in reference if card['stage'].startswith('verify')}
    assert verify['verify_csrm'] == {'seg/mIoU ms flip crf': 74.5}
    assert 'verify_masks' not in verify


def test_other_data_sets_cannot_be_compared(run, other, write):
    for card in other:
        card['dataset'] = 'demo'
    with pytest.raises(UserError, match=r'of the data set msrc, but the reference .* of demo'):
        doctor.load_pair(write('a', run), write('b', other))


@pytest.mark.parametrize(
    ('card', 'expected'),
    [
        ({'dataset': 'coco', 'run': 'x'}, 'coco'),
        ({'run': 'x', 'config': {'settings': {'train_dataloader.dataset.type': 'VOC12WSSSDataset'}}}, 'voc'),
        ({'run': 'x', 'config': {'settings': {'test_dataloader.dataset.type': 'MSRCDataset'}}}, 'msrc'),
        ({'run': 'mine_seed1', 'config': {'settings': {'test_dataloader.dataset.type': 'ImageLabelDataset'}}}, 'mine'),
        ({'run': 'voc', 'config': None}, 'voc'),
    ],
)
def test_data_set_of_a_run(card, expected):
    assert doctor.dataset_of([{'run': card['run']}, card]) == expected


def test_empty_broken_and_absent_runs(run, write, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=r'empty` holds no card\.json'):
        doctor.load_pair(str(tmp_path / 'empty'))
    with pytest.raises(MissingFileError, match='nowhere'):
        doctor.load_pair(str(tmp_path / 'nowhere'))
    folder = write('a', run)
    (tmp_path / 'a' / 'csrm' / 'card.json').write_text('{')
    with pytest.raises(UserError, match=r'csrm.card\.json` is no JSON'):
        doctor.load_pair(folder)


def drawn(findings):
    stream = io.StringIO()
    Console(file=stream, width=140).print(doctor.draw_findings(findings))
    return stream.getvalue()


def test_table_shows_stages_differences_and_scores(run, other):
    change_setting(card_of(run, 'csrm'))
    card_of(run, 'csrm')['config']['settings']['bold'] = '[red]'  # no markup
    card_of(run, 'csrm')['config']['settings'] |= {f'z{i}': i for i in range(9)}
    lower(run, 'csrm', 'val', 2.25)
    lower(run, 'classifier', 'train', -1)
    table = drawn(doctor.compare_runs(run[:4], other))
    for text in ('lr 0.2 against 0.1', 'bold [red] against not set', 'and 5 more', 'not in this run', 'nothing'):
        assert text in table
    cells = [[cell.strip() for cell in line.split('│')[3:-1]] for line in table.splitlines() if 'mIoU val' in line]
    assert ['pseudo/mIoU val', '42.75', '45.0', '-2.25'] in cells
    assert '+1.0' in table


def test_notes_of_the_reference_are_given_once():
    findings = doctor.compare_runs(paper_run(), published.paper_card_run('voc'))
    lines = doctor.note_lines(findings)
    assert any(line.startswith('classifier, csrm: ') for line in lines)
    assert any(line.startswith('labels_csrm_crf: the check marks') for line in lines)
    assert len(lines) == len(set(lines))
    assert 'Table 2, second row 4' in drawn(findings)
