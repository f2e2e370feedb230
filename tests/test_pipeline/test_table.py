import io

import pytest
from rich.console import Console

from csrm_plugin.pipeline import published
from csrm_plugin.pipeline.recipes import load_recipe
from csrm_plugin.pipeline.table import LABEL_ROWS, print_table, table_markdown, table_rows


def label_card(stage, number, train, val, **context):
    base = dict(
        source='cam' if 'cam' in stage else 'seg',
        crf=False,
        scales=[0.5, 1, 1.5, 2],
        flip=True,
        threshold=None,
        weights='teacher',
        restricted='labels',
    )
    return dict(stage=stage, kind='labels', number=number, scores=dict(train=dict(miou=train), val=dict(miou=val)),
                context={**base, **context})  # fmt: skip


@pytest.fixture
def cards():
    cam = label_card('labels_cam', 4, 59.9, 59.8, threshold=0.35, weights=None)
    cam['scores']['train'] |= dict(best_miou=60.5, best_threshold=0.3)
    verify = dict(
        stage='verify_csrm', kind='verify', number=8, scores=dict(val={'seg/mIoU': 66.6, 'seg/mIoU ms flip crf': 68.0}),
        context=dict(labels='labels_csrm_crf', scales=[1, 2], flip=True, crf={}),
        config=dict(file='mmcfg/deeplabv2_r101_voc_pseudo.py'))  # fmt: skip
    masks = dict(stage='masks', kind='masks', number=7, scores={}, context=dict(masks='superpixels'))
    return [cam, label_card('labels_csrm', 6, 70.0, 68.0), masks, verify]


def test_scores_stand_beside_the_papers(cards, root):
    table = table_rows(load_recipe('voc', str(root)), cards)
    first, second = table['labels']
    assert first['scores'] == dict(train=59.9, val=59.8) and first['paper'] == dict(train=59.9, val=59.8)
    assert first['best'] == dict(train=dict(miou=60.5, threshold=0.3))
    assert (second['csrm'], second['dcrf'], second['paper']) == (True, False, dict(train=71.8, val=69.8))
    (row,) = table['verification']
    assert row['network'] == 'deeplabv2' and 69.8 in row['paper'].values()
    assert any('superpixels, not SAM' in note for note in table['notes'])


def test_the_table_reads_well(cards, root):
    table = table_rows(load_recipe('voc', str(root)), cards)
    text = table_markdown(table)
    scores = '59.90 (best 60.50 at 0.3) | 59.90 | 59.80 | 59.80'
    assert f'| CAM of the classifier |  |  |  | {scores} | CAM at 0.35, scales 0.5 1 1.5 2, flip, no dCRF |' in text
    assert (
        '| CSRM | x |  |  | 70.00 | 71.80 | 68.00 | 69.80 | segmentation, teacher, scales 0.5 1 1.5 2, flip, no dCRF |'
        in text
    )
    assert '| deeplabv2 | labels_csrm_crf | 66.60 | 68.00 | 69.80 | 1 2 |' in text
    assert 'chosen with the masks' in text and 'seed 0' in text
    out = io.StringIO()
    print_table(table, Console(file=out, width=200))
    assert '59.90 (best 60.50 at 0.3)' in out.getvalue() and '71.80' in out.getvalue()


def test_other_data_sets_have_no_figures_of_the_paper(cards, root):
    table = table_rows(load_recipe('msrc', str(root)), cards)
    assert all(value is None for row in table['labels'] for value in row['paper'].values())
    assert '71.8' not in table_markdown(table)


def test_the_rows_are_those_of_the_papers_table():
    ours = {stage: (csrm, crf, sepl) for stage, _, csrm, crf, sepl in LABEL_ROWS}
    assert {row['stage']: (row['csrm'], row['crf'], row['sepl']) for row in published.TABLE_2} == ours
