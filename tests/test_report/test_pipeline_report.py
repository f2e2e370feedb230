import json

from csrm_plugin.report import write_report
from csrm_plugin.report.page.formats import NONE


def test_pipeline(tmp_path, build, read_page):
    page = read_page(write_report(build['pipeline'](tmp_path)))
    assert 'Pipeline msrc, data set msrc, seed 0: 3 of 3 stages done, 1 training among them.' in page.text
    (row,) = page.table('Pseudo labels, mIoU')[1:]
    reference = 'baseline'
    assert row[:7] == ['CAM of the classifier (plain baseline)', '', '', '43.2%', reference, '41.3%', reference]
    assert row[7:] == ['image labels', 'CAM at 0.5, teacher, scale 1, no flip, no dCRF']
    stages = page.table('Scores of the checkpoints')
    assert [row[:2] for row in stages[1:] if len(row) > 1] == [
        ['CAM mIoU', '40.0%'],
        ['Segmentation mIoU', '47.6%'],
        ['Pseudo-label mIoU', '48.7%'],
    ]
    assert page.table('What each stage cost')[3] == [
        'labels_cam',
        'done',
        '3 min 00 s',
        '2.5',
        '803 MiB',
        NONE,
        '2 cores',
    ]
    assert 'No published figure for msrc' in page.text and '6 min 00 s' in page.text
    assert 'Losses' in page.text  # of the training


def test_the_table_of_the_pipeline_with_the_paper_beside(tmp_path, build, read_page):
    folder = build['pipeline'](tmp_path)
    row = dict(
        stage='labels_csrm',
        what='CSRM',
        csrm=True,
        dcrf=False,
        sepl=False,
        scores={'train': 70.04, 'val': 68.0},
        best={'train': {'miou': 71.0, 'threshold': 0.4}},
        paper={'train': 71.8, 'val': 69.8},
        context={'scales': [1]},
    )
    network = dict(
        network='deeplabv2',
        labels='labels_csrm',
        split='val',
        scores={'seg/mIoU': 66.6},
        paper={'seg/mIoU': 69.8},
        context={'scales': [0.5, 1]},
    )
    content = dict(run='voc', dataset='voc', seed=0, splits=['train', 'val'], labels=[row], verification=[network])
    build['write'](folder / 'table' / 'table.json', {**content, 'notes': ['A note.']})
    card = json.loads((folder / 'csrm' / 'card.json').read_text())
    build['write'](folder / 'csrm' / 'card.json', {**card, 'status': 'failed'})
    page = read_page(write_report(folder))
    head, row = page.table('Pseudo labels, mIoU')
    assert head == ['Labels', 'dCRF', 'SEPL', 'train', 'train, paper', 'val', 'val, paper', 'Knowledge', 'Stands on']
    assert row[:3] == ['CSRM', '', '']
    assert row[3:] == ['70.0%best 71.0% at 0.4', '71.8%', '68.0%', '69.8%', '', 'scale 1, no flip, no dCRF']
    assert page.table('Networks trained')[1] == ['deeplabv2', 'labels_csrm', '66.6%', '69.8%', '', '0.5 1']
    assert 'Stage csrm: failed.' in page.text and 'A note.' in page.text


def test_a_pipeline_beside_a_run_does_not_take_over_the_page(tmp_path, build, read_page):
    folders = [build['pipeline'](tmp_path / 'pipe'), build['run'](tmp_path / 'other')]
    page = read_page(write_report(folders, tmp_path / 'both.html'))
    assert 'Comparison2 runs side by side csrm, other. Data set: msrc, demo. With the pipeline pipe.' in page.text
    assert 'Pipeline report' not in page.text and 'Table of pipe' in page.text
    cards = page.text.split('Table of pipe')[-2].split('With the pipeline pipe.')[-1]
    assert 'Best pseudo labels' not in cards and 'Segmentation mIoU' in cards


def test_several_pipelines(tmp_path, build, read_page):
    folders = [build['pipeline'](tmp_path / name) for name in 'ab']
    page = read_page(write_report(folders, tmp_path / 'both.html'))
    assert 'Table of a' in page.text and 'Table of b' in page.text
    assert 'a/csrm/train' in page.text and 'b/csrm/train' in page.text
