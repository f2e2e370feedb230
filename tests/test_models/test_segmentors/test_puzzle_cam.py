import pytest
import torch

from csrm_plugin.models.segmentors.puzzle_cam import merge_tiles, split_tiles


def test_tiles_worked_by_hand():
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    tiles = split_tiles(picture, 2)
    assert tiles[:, 0].tolist() == [
        [[0, 1], [4, 5]],
        [[2, 3], [6, 7]],
        [[8, 9], [12, 13]],
        [[10, 11], [14, 15]],
    ]


@pytest.mark.parametrize('tiles', [1, 2, 3])
def test_merge_is_the_inverse_of_split(tiles):
    pictures = torch.randn(2, 3, 6, 12)
    parts = split_tiles(pictures, tiles)
    assert parts.shape == (2 * tiles**2, 3, 6 // tiles, 12 // tiles)
    assert merge_tiles(parts, tiles).equal(pictures)


def test_size_that_cannot_be_cut():
    with pytest.raises(ValueError, match='5 x 4 pixels cannot be cut into 2 x 2'):
        split_tiles(torch.zeros(1, 3, 5, 4), 2)


def test_loss_worked_by_hand(build, make_batch, monkeypatch):
    model = build('PuzzleCAM', loss_re_weight=3.0)
    # A "network" that subtracts the mean of what it sees: the whole picture gives -1.5 -0.5 0.5 1.5, tiles of one
    # pixel give 0. L1 distance 1 in each class; two of four classes are present, so the mean is 0.5.
    monkeypatch.setattr(model, '_forward', lambda x: x - x.mean(dim=(2, 3), keepdim=True))
    inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 4, 2, 2)
    losses = model.loss(inputs, make_batch((2, 2))['data_samples'])
    assert losses['loss_re'].item() == pytest.approx(3.0 * 0.5)
    assert losses['loss_c'].item() == pytest.approx(torch.tensor(2.0).log().item())
    assert losses['loss_c_tiles'].item() == losses['loss_c'].item()
    model.reconstruction_weight = 0.0
    assert model.loss(inputs, make_batch((2, 2))['data_samples'])['loss_re'].item() == 0


def test_gradients_come_from_both_ways(build, make_batch):
    model = build('PuzzleCAM')
    data = model.data_preprocessor(make_batch(), True)
    losses = model.loss(**data)
    assert losses.keys() == {'loss_c', 'loss_c_tiles', 'loss_re'}
    for value in losses.values():
        model.zero_grad()
        value.backward(retain_graph=True)
        assert model.backbone.stem[0].weight.grad.abs().sum() > 0


def test_tiles_whose_size_is_no_multiple_of_the_stride(build, make_batch):
    model = build('PuzzleCAM', data_preprocessor=dict(type='SegDataPreProcessor', size=(40, 40)))
    losses = model.loss(**model.data_preprocessor(make_batch((40, 40), (40, 40)), True))
    assert all(value.isfinite() for value in losses.values())


def test_autocast_compares_the_maps_in_float32(build, make_batch):
    model = build('PuzzleCAM')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(**model.data_preprocessor(make_batch(), True))
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_settings(build):
    assert build('PuzzleCAM').reconstruction_weight == 4.0
    with pytest.raises(ValueError, match=r'`model.tiles`'):
        build('PuzzleCAM', tiles=0)
