import json

import pytest

from csrm_plugin.experiments.pipeline.cards import write_card
from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.report.paper import published
from csrm_plugin.report.paper.table import table_of_cards, table_rows, write_cards_table, write_table
from csrm_plugin.report.paper.table_text import table_markdown
from csrm_plugin.utils import MissingFileError, UserError, write_json


def test_scores_stand_beside_the_papers(cards, root):
    table = table_rows(load_recipe('voc', str(root)), cards)
    first, second = table['labels']
    assert first['scores'] == dict(train=59.9, val=59.8) and first['paper'] == dict(train=59.9, val=59.8)
    assert first['best'] == dict(train=dict(miou=60.5, threshold=0.3))
    assert (second['what'], second['dcrf'], second['paper']) == ('CSRM', False, dict(train=71.8, val=69.8))
    (row,) = table['verification']
    assert row['network'] == 'deeplabv2' and 69.8 in row['paper'].values()
    assert any('superpixels, not SAM' in note for note in table['notes'])


def test_other_data_sets_have_no_figures_of_the_paper(cards, root):
    table = table_rows(load_recipe('msrc', str(root)), cards)
    assert all(value is None for row in table['labels'] for value in row['paper'].values())
    assert '71.8' not in table_markdown(table)


def test_the_rows_are_those_of_the_papers_table(label_card, root):
    """Whatever the order of the stages, labels of one origin stand together, as they are refined."""
    flags = {
        'labels_cam': ('labels', ()),
        'labels_cam_crf': ('refined', ['labels_cam']),
        'labels_csrm': ('labels', ()),
        'labels_csrm_crf': ('refined', ['labels_csrm']),
        'labels_cam_sepl': ('sepl', ['labels_cam', 'masks']),
        'labels_csrm_crf_sepl': ('sepl', ['labels_csrm_crf', 'masks']),
    }
    cards = [
        label_card(stage, number, 1.0, 2.0, kind, inputs=inputs, own='cam' if 'cam' in stage else 'seg')
        for number, (stage, (kind, inputs)) in enumerate(flags.items(), start=4)
    ]
    rows = table_rows(load_recipe('voc', str(root)), cards)['labels']
    assert [row['stage'] for row in rows] == [
        'labels_cam',
        'labels_cam_crf',
        'labels_cam_sepl',
        'labels_csrm',
        'labels_csrm_crf',
        'labels_csrm_crf_sepl',
    ]
    ours = {row['stage']: (row['what'] == 'CSRM', row['dcrf'], row['sepl']) for row in rows}
    assert {row['stage']: (row['csrm'], row['crf'], row['sepl']) for row in published.TABLE_2} == ours


def test_each_row_says_what_an_update_of_its_training_cost(cards, root):
    costs = {'csrm': dict(seconds=2.13, pictures=8), 'verify_csrm': dict(seconds=0.52, pictures=16)}
    known = {card['stage'] for card in cards}
    trained = [dict(stage='csrm', kind='train', number=3, status='done', inputs={})] if 'csrm' not in known else []
    for card in [*cards, *trained]:
        card['time'] = dict(update=costs.get(card['stage']))
    for card in cards:
        if card['stage'] == 'labels_csrm':
            card['inputs'] = {'csrm': 'key'}
    table = table_rows(load_recipe('voc', str(root)), [*cards, *trained])
    assert [row['update'] for row in table['labels']] == [None, costs['csrm']]
    assert [row['update'] for row in table['verification']] == [costs['verify_csrm']]
    text = table_markdown(table)
    assert 'training 2.1 s an update of 8' in text and 'training 0.52 s an update of 16' in text


def test_a_method_of_one_training_has_rows_of_its_own_and_no_figures(label_card, root):
    """Plain CAMs of the method are named as such; the paper's figures are of other labels."""
    own = dict(made_by='RML', own='propagated', weights='RML')
    note = 'propagated CAMs of scales 0.5 1 1.5 with flip, background 0.35'
    crf = dict(iterations=10)
    cards = [
        label_card('labels_rml_cam', 3, 40.0, 39.0, threshold=0.3, **own),
        label_card(
            'labels_rml', 4, 50.0, 49.0, source='propagated', threshold=0.35, segmentation=note, scales=[1], **own
        ),
        label_card('labels_rml_crf', 5, 51.0, 50.0, 'refined', inputs=['labels_rml'], crf=crf),
    ]
    table = table_rows(load_recipe('rml_voc', str(root)), cards)
    assert [row['what'] for row in table['labels']] == ['CAM of the same network (RML)', 'RML', 'RML']
    assert [row['dcrf'] for row in table['labels']] == [False, False, True]
    assert not any(value for row in table['labels'] for value in row['paper'].values())
    text = table_markdown(table)
    assert f'propagated CAM at 0.35, RML, {note}, scale 1, flip, no dCRF' in text and 'DOI' not in text


@pytest.fixture
def run_folder(cards, label_card, tmp_path):
    """The folder of a run on VOC whose four stages are done; a card that other settings left lies beside them."""
    stale = label_card('labels_csrm_crf', 7, 1.0, 1.0, 'refined', inputs=['labels_csrm'])
    for card in [*cards, stale]:
        write_card(tmp_path / 'run' / card['stage'], dict(card, run='voc', status='done'))
    stages = [card['stage'] for card in cards]
    summary = dict(name='voc', dataset='voc', seed=3, splits=['train', 'val'], stages=stages)
    write_json(tmp_path / 'run' / 'pipeline.json', summary)
    return tmp_path / 'run'


def test_the_files_of_a_run_hold_the_stages_that_count(run_folder, tmp_path):
    table = write_table(str(run_folder), str(tmp_path / 'table'))
    assert sorted(path.name for path in (tmp_path / 'table').iterdir()) == ['table.json', 'table.md']
    assert json.loads((tmp_path / 'table' / 'table.json').read_text()) == table
    assert (tmp_path / 'table' / 'table.md').read_text() == table_markdown(table)
    assert [row['stage'] for row in table['labels']] == ['labels_cam', 'labels_csrm']
    assert [row['stage'] for row in table['verification']] == ['verify_csrm']
    assert (table['run'], table['dataset'], table['seed'], table['splits']) == ('voc', 'voc', 3, ['train', 'val'])
    assert table['labels'][1]['paper'] == dict(train=71.8, val=69.8)


def test_what_was_set_aside_is_not_in_the_table(run_folder, label_card, tmp_path):
    """Only folders that the run names are read."""
    name = 'labels_csrm.set_aside_20261122_101112_changed_since_code'
    write_card(run_folder / name, dict(label_card('labels_csrm', 6, 1.0, 2.0), run='voc', status='done'))
    table = write_table(str(run_folder), str(tmp_path / 'table'))
    assert [row['scores'] for row in table['labels']] == [dict(train=59.9, val=59.8), dict(train=70.0, val=68.0)]


def test_without_the_summary_of_the_run_or_a_card_there_is_no_table(run_folder, tmp_path):
    (run_folder / 'labels_csrm' / 'card.json').unlink()
    with pytest.raises(UserError, match=r'run`: the stage labels_csrm has no card; call tools/pipeline\.py again'):
        write_table(str(run_folder), str(tmp_path / 'table'))
    (run_folder / 'pipeline.json').unlink()
    with pytest.raises(MissingFileError, match=r'run` is no run of tools/pipeline\.py: it has no pipeline\.json'):
        write_table(str(run_folder), str(tmp_path / 'table'))
    assert not (tmp_path / 'table').exists()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', r'pipeline\.json` is no JSON .* call tools/pipeline\.py again'),
        ('[]', r'pipeline\.json` must hold a JSON object'),
        ('{"name": "voc", "dataset": "voc", "seed": 0, "splits": []}', r'lacks `stages`; .* call tools/pipeline\.py'),
    ],
)
def test_a_broken_summary_is_named(run_folder, tmp_path, text, message):
    (run_folder / 'pipeline.json').write_text(text)
    with pytest.raises(UserError, match=message):
        write_table(str(run_folder), str(tmp_path / 'table'))


def test_cards_of_a_run_that_is_not_finished_have_a_table_as_well(cards, label_card, tmp_path):
    """What cannot be a row is passed over; where there is no row there is no table."""
    done = [dict(card, run='voc', dataset='voc', seed=1, status='done') for card in cards]
    half = dict(label_card('labels_x', 9, 1.0, 2.0), run='voc', status='done', scores=dict(train=dict(miou=1.0)))
    begun = dict(stage='labels_y', kind='labels', run='voc', number=10, status='interrupted')
    table = table_of_cards([*done, half, begun])
    assert [row['stage'] for row in table['labels']] == ['labels_cam', 'labels_csrm']
    assert (table['seed'], table['splits']) == (1, ['train', 'val'])
    assert table_of_cards(done[2:]) is None and table_of_cards([]) is None
    assert write_cards_table([*done, half, begun], str(tmp_path)) == table
    assert json.loads((tmp_path / 'table.json').read_text()) == table
    assert (tmp_path / 'table.md').read_text() == table_markdown(table)
