import pytest

from csrm_plugin.report.paper import doctor, published
from csrm_plugin.utils import UserError


def test_a_run_and_itself(run, other, compare):
    findings, sentence = compare(run, other)
    assert [finding['state'] for finding in findings.values()] == ['same'] * 5
    assert not any(map(doctor.is_off, findings.values()))
    assert sentence.startswith('Nothing is off: in classifier, csrm, labels_csrm none is more than 0.5 points below')
    assert all(set(finding['known']) == set(doctor.PARTS) for finding in findings.values())


@pytest.mark.parametrize(
    ('points', 'tolerance', 'off'),
    [(0.5, 0.5, False), (0.51, 0.5, True), (0.51, 0.6, False), (0.01, 0, True), (-9, 0, False)],
)
def test_tolerance_is_for_scores_below(run, other, points, tolerance, off, compare, lower):
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


def test_missing_stages_keep_their_place_and_count(run, other, compare):
    run = [card for card in run if card['stage'] not in ('data', 'csrm')]
    findings, sentence = compare(run, other)
    assert list(findings) == ['data', 'classifier', 'csrm', 'labels_csrm', 'table']
    assert doctor.is_off(findings['csrm']) and findings['csrm']['state'] == 'missing'
    assert sentence.startswith('No score is off') and sentence.endswith('Not in this run: data, csrm.')


def test_more_stages_than_the_reference_are_fine(run, other, compare):
    findings, _ = compare(run, other[:3])
    assert [finding['state'] for finding in findings.values()] == ['same', 'same', 'same', 'extra', 'extra']
    assert not any(map(doctor.is_off, findings.values()))


def test_unfinished_and_skipped_stages(run, other, card_of, compare):
    card_of(run, 'csrm')['status'] = 'running'
    card_of(run, 'labels_csrm')['status'] = 'skipped'
    findings, sentence = compare(run, other)
    assert doctor.is_off(findings['csrm']) and not doctor.is_off(findings['labels_csrm'])
    assert sentence == (
        'First stage that is off: csrm: not finished (status running). Left out in this run: labels_csrm.'
    )
    findings, _ = compare(other, run)
    assert findings['csrm']['state'] == 'extra'


def test_optional_stages_of_the_reference_do_not_count(compare, paper_run):
    run = [card for card in paper_run() if 'sepl' not in card['stage']]
    findings, sentence = compare(run, published.paper_card_run('voc'))
    assert findings['labels_cam_sepl']['state'] == 'skipped'
    assert sentence.startswith('Nothing is off')
    assert sentence.endswith('Left out in this run: labels_cam_sepl, labels_csrm_crf_sepl.')


def test_a_stage_made_from_an_earlier_outcome_is_out_of_date(run, other, card_of, compare, drawn):
    card_of(run, 'csrm')['key'] = 'a new key'
    findings, sentence = compare(run, other)
    assert {stage: finding['outdated'] for stage, finding in findings.items() if finding['outdated']} == {
        'labels_csrm': ['csrm']
    }
    assert sentence.endswith('Out of date: labels_csrm (by csrm); run the pipeline again.')
    assert 'made from an earlier csrm' in drawn(list(findings.values()))


def test_a_stage_that_has_begun_is_not_finished_and_keeps_its_place(run, other, write, tmp_path, compare):
    folder = write('a', [card for card in run if card['stage'] != 'csrm'])
    for stage in ('csrm', 'new'):
        (tmp_path / 'a' / stage).mkdir()
        (tmp_path / 'a' / stage / 'key').write_text('k')
    (tmp_path / 'a' / 'table' / 'key').write_text('k')
    findings, sentence = compare(*doctor.load_pair(folder, write('b', other)))
    assert list(findings) == ['data', 'classifier', 'csrm', 'labels_csrm', 'table', 'new']
    assert [stage for stage in findings if findings[stage]['state'] == 'unfinished'] == ['csrm', 'new']
    assert sentence.startswith('First stage that is off: csrm: not finished (status interrupted).')


def test_runs_without_a_common_stage_or_score(run, other, compare):
    with pytest.raises(UserError, match='no stage in common: there are data in the run and table'):
        doctor.compare_runs(run[:1], other[-1:])
    assert compare(run[:1], other[:1])[1].startswith('No stage that both have holds a score')


def test_a_run_like_the_paper_is_fine(compare, paper_run):
    findings, sentence = compare(paper_run(), published.paper_card_run('voc'))
    states = {stage: finding['state'] for stage, finding in findings.items()}
    assert set(states.values()) == {'same'}, states
    assert sentence.startswith('Nothing is off')


def test_a_run_that_falls_short_of_the_paper(card_of, compare, lower, paper_run):
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
