import pytest

from csrm_plugin.report import write_report
from csrm_plugin.report.page.formats import NONE
from csrm_plugin.report.paper.run_figures import published_figure
from csrm_plugin.report.runs.sources import load_runs

CLASSIFIER = {'model.type': 'CAMClassifier', 'model.cam_head.type': 'CAMHead'}


COCO = {'train_dataloader.dataset.type': 'COCO14WSSSDataset'}


VOC = {'train_dataloader.dataset.type': 'VOC12WSSSDataset'}


def test_paper_figures_stand_beside_where_there_are_some(tmp_path, build, read_page):
    settings = {**VOC, **{f'model.loss_{loss}.type': 'L' for loss in ('s2c', 'u', 'm')}}
    page = read_page(write_report(build['run'](tmp_path / 'voc', 'csrm_voc', settings=settings)))
    head, *rows = page.table('Scores of the validations')
    column = head.index('Paper')
    assert {row[0].split()[0]: row[column] for row in rows} == {
        'Segmentation': NONE,
        'Pseudo-label': '69.8%Table 1, row 4',
        'CAM': NONE,
        'Classification': NONE,
    }
    assert '10.5220/0013238400003912' in page.text and 'test-time augmentation' in page.text


@pytest.mark.parametrize(
    ('name', 'settings', 'expected'),
    [
        ('csrm_voc_1_s', VOC, ('Table 1, row 1', {'train': 69.9, 'val': 67.7})),
        ('csrm_voc', {**VOC, 'model.loss_m.type': 'L'}, None),  # s and m alone are in no row
        ('cam_voc', {**VOC, **CLASSIFIER}, ('Table 2, row 1', {'train': 59.9, 'val': 59.8})),
        # A method without a decoder is no classifier.
        ('rml_voc', {**VOC, **CLASSIFIER, 'model.type': 'RML'}, None),
        ('csrm_coco', {'train_dataloader.dataset.type': 'COCO14WSSSDataset'}, None),
        ('csrm_demo', {}, None),
    ],
)
def test_which_figure_of_the_paper_a_run_has(tmp_path, build, name, settings, expected):
    figure = published_figure(load_runs([build['run'](tmp_path, name, settings=settings)])[0][0])
    assert (figure and (figure.source, figure.scores)) == expected


@pytest.mark.parametrize(
    ('name', 'settings', 'labels', 'expected'),
    [
        ('deeplabv2_r101_voc_pseudo', VOC, 'labels_csrm_crf', ('Table 3', {'val': 69.8, 'test': 70.4})),
        ('deeplabv2_r101_voc_pseudo', VOC, 'true masks', ('Table 3', {'val': 76.8, 'test': 76.2})),
        ('deeplabv2_r101_voc_pseudo', VOC, 'labels_cam_crf', None),
        ('deeplabv2_r101_voc_pseudo', VOC, None, None),
        ('deeplabv2_r101_coco_pseudo', COCO, 'labels_csrm', ('Table 4', {'val': 46.2})),
        ('deeplabv2_r101_coco_pseudo', COCO, 'true masks', None),
    ],
)
def test_the_figure_of_a_network_depends_on_its_labels(tmp_path, build, read_page, name, settings, labels, expected):
    if labels:  # as the card of a pipeline says
        card = dict(stage='verify', kind='verify', run='voc', number=1, status='done', context={'labels': labels})
        build['write'](tmp_path / 'verify' / 'card.json', card)
    folder = build['run'](tmp_path / 'verify' / 'train', name, settings=settings)
    given = tmp_path if labels else folder
    figure = published_figure(load_runs([given])[0][0])
    assert (figure and (figure.source, figure.scores)) == expected
    if figure:
        assert figure.note.startswith(
            'trained on true masks' if labels == 'true masks' else 'trained on labels by CSRM'
        )
        return
    page = read_page(write_report(given))
    head, row, *_ = page.table('Scores of the validations')
    assert row[head.index('Paper')] == NONE
    assert ('which are not known here: train' in page.text) == (labels is None)
