import pytest

from csrm_plugin.report.runs.datasets import cards_dataset, run_dataset
from csrm_plugin.report.runs.sources import load_runs


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
    assert cards_dataset([{'run': card['run']}, card]) == expected


@pytest.mark.parametrize(
    ('kind', 'expected'), [('VOC12WSSSDataset', 'voc'), ('SyntheticWSSSDataset', 'demo'), ('ImageLabelDataset', None)]
)
def test_data_set_of_a_training(tmp_path, build, kind, expected):
    build['run'](tmp_path, settings={'train_dataloader.dataset.type': kind})
    ((run,), _) = load_runs([tmp_path])
    assert run_dataset(run) == expected
    run.card = {'dataset': 'mine'}
    assert run_dataset(run) == (expected or 'mine')
