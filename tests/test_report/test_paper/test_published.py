import inspect

import pytest
from mmseg.datasets import PascalVOCDataset

from csrm_plugin.config.load import load_config
from csrm_plugin.config.provenance import config_settings
from csrm_plugin.models.losses import PixelContrastLoss
from csrm_plugin.models.segmentors import CSRM
from csrm_plugin.report.paper import published


def by_stage(dataset, **options):
    return {card['stage']: card for card in published.paper_card_run(dataset, **options)}


def test_classes_of_table_5_and_their_mean():
    iou = published.TABLE_5['iou']
    assert tuple(iou) == tuple(PascalVOCDataset.METAINFO['classes'])
    assert sum(iou.values()) / 21 == pytest.approx(published.TABLE_5['mean'], abs=0.05)
    v3plus = [row for row in published.TABLE_3 if (row['method'], row['network']) == ('CSRM', 'deeplabv3plus')]
    assert v3plus[0]['test'] == published.TABLE_5['mean']


@pytest.mark.parametrize(
    ('row', 'train', 'val'),
    # What the paper prints beside the scores: percent above the first row.
    [(1, 19.9, 16.7), (2, 9.0, 9.0), (3, 19.5, 20.1), (4, 21.2, 17.4), (5, 29.5, 27.4)],
)
def test_gains_of_table_2_are_those_that_the_paper_prints(row, train, val):
    base, row = published.TABLE_2[0], published.TABLE_2[row]
    for split, gain in (('train', train), ('val', val)):
        assert 100 * (row[split] / base[split] - 1) == pytest.approx(gain, abs=0.1)


@pytest.mark.parametrize(('row', 'train', 'val'), [(1, -2.3, -1.6), (2, 3.7, 3.2), (3, 1.4, 1.6)])
def test_steps_of_table_1_are_those_that_the_paper_prints(row, train, val):
    before, after = published.TABLE_1[row - 1 : row + 1]
    for split, step in (('train', train), ('val', val)):
        assert 100 * (after[split] / before[split] - 1) == pytest.approx(step, abs=0.1)


def test_voc_run_holds_the_scores_of_the_tables():
    cards = by_stage('voc')
    labels = {
        'labels_cam': (59.9, 59.8),
        'labels_cam_crf': (65.3, 65.2),
        'labels_csrm': (71.8, 69.8),
        'labels_csrm_crf': (72.6, 70.2),
        'labels_cam_sepl': (71.6, 71.8),
        'labels_csrm_crf_sepl': (77.6, 76.2),
    }
    for stage, (train, val) in labels.items():
        assert cards[stage]['scores'] == {'train': {'miou': train}, 'val': {'miou': val}}
        assert cards[stage]['source'].startswith('Table 2')
        assert cards[stage]['context']['with_crf'] is ('_crf' in stage)
        assert cards[stage]['optional'] is ('_sepl' in stage)
    assert cards['csrm']['scores'] == {'train': {'pseudo/mIoU': 71.8}, 'val': {'pseudo/mIoU': 69.8}}
    assert 'taken as CSRM with dCRF' in cards['labels_csrm_crf']['notes'][0]
    verify = 'seg/mIoU ms flip crf'
    assert cards['verify_csrm']['scores'] == {'val': {verify: 69.8}, 'test': {verify: 70.4}}
    assert cards['verify_csrm_v3plus']['scores'] == {'val': {verify: 74.5}, 'test': {verify: 75.0}}
    assert cards['verify_masks']['scores'] == {'val': {verify: 76.8}, 'test': {verify: 76.2}}
    assert [card['number'] for card in cards.values()] == list(range(1, len(cards) + 1))
    assert all((card['status'], card['run'], card['dataset']) == ('published', 'voc', 'voc') for card in cards.values())


def test_coco_run_has_verification_scores_only():
    cards = by_stage('coco')
    assert {stage: card['scores'] for stage, card in cards.items()} == {
        'csrm': {},
        'verify_csrm': {'val': {'seg/mIoU ms flip crf': 46.2}},
        'verify_csrm_v3plus': {'val': {'seg/mIoU ms flip crf': 50.5}},
    }


def test_networks_can_be_other_ones():
    cards = by_stage('voc', networks={'verify_csrm': 'deeplabv3plus', 'verify_masks': None})
    assert cards['verify_csrm']['scores']['val'] == {'seg/mIoU ms flip crf': 74.5}
    assert 'verify_masks' not in cards
    with pytest.raises(ValueError, match='unet'):
        published.paper_card_run('voc', {'verify_csrm': 'unet'})
    with pytest.raises(ValueError, match='msrc'):
        published.paper_card_run('msrc')


def test_changing_a_card_changes_nothing_here():
    published.paper_card_run('voc')[2]['scores']['train']['pseudo/mIoU'] = 0
    published.paper_card_run('voc')[2]['config']['settings'].clear()
    published.paper_card_run('voc')[0]['data']['val']['pictures'] = 0
    assert by_stage('voc')['data']['data']['val'] == {'pictures': 1449}
    assert by_stage('voc')['csrm']['scores']['train']['pseudo/mIoU'] == 71.8
    assert by_stage('voc')['csrm']['config']['settings']['model.pseudo_label.fg_threshold'] == 0.35


def test_defaults_of_our_classes_are_those_of_the_paper():
    signatures = {'model': inspect.signature(CSRM), 'model.loss_m': inspect.signature(PixelContrastLoss)}
    for key in published.DEFAULTS:
        place, name = key.rsplit('.', 1)
        assert signatures[place].parameters[name].default == published.CSRM_SETTINGS[key], key


@pytest.mark.parametrize(
    ('config', 'dataset', 'stage'),
    [
        ('csrm_voc', 'voc', 'csrm'),
        ('csrm_coco', 'coco', 'csrm'),
        ('deeplabv2_r101_voc_pseudo', 'voc', 'verify_csrm'),
        ('deeplabv2_r101_coco_pseudo', 'coco', 'verify_csrm'),
        ('deeplabv3plus_rs269_voc_pseudo', 'voc', 'verify_csrm_v3plus'),
        ('deeplabv3plus_rs269_coco_pseudo', 'coco', 'verify_csrm_v3plus'),
    ],
)
def test_shipped_configs_have_the_settings_of_the_paper(root, config, dataset, stage):
    card = by_stage(dataset)[stage]
    ours = config_settings(load_config(str(root / 'mmcfg' / f'{config}.py')))
    stated = {key: value for key, value in card['config']['settings'].items() if key not in card['defaults']}
    assert {key: ours.get(key) for key in stated} == stated
    assert not set(card['defaults']) & set(ours)
