import shutil

import pytest

from csrm_plugin.report.paper import doctor, published
from csrm_plugin.utils import MissingFileError, UserError


def test_pair_of_folders(run, other, write):
    here, there = doctor.load_pair(write('a', run), write('b', other))
    assert (here, there) == (run, other)


def test_a_single_stage_is_compared_with_that_stage(run, other, write, tmp_path, card_of):
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


def test_networks_of_the_paper_follow_the_configs(write, card_of, paper_run):
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


def test_what_was_set_aside_is_no_stage(run, other, write, tmp_path):
    """Neither a finished training that another one replaced, nor one that was interrupted."""
    folder, aside = write('a', run), tmp_path / 'a' / 'csrm.set_aside_20261122_101112_it_was_not_finished'
    aside.mkdir()
    (aside / 'key').write_text('k')
    shutil.copytree(tmp_path / 'a' / 'csrm', tmp_path / 'a' / 'csrm.set_aside_20261122_101112_changed_since_code')
    here, _ = doctor.load_pair(folder, write('b', other))
    assert here == run
