"""Padding is no part of a picture: class scores and Puzzle-CAM's distance are those of the picture alone."""

import pytest
import torch
from torch import nn


class Patches(nn.Module):
    """Features of patches of 8 x 8 pixels: no position knows of its neighbours, or of padding beside it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 16, 8, 8)

    def forward(self, inputs):
        features = self.conv(inputs)
        return nn.functional.interpolate(features[:, :8], scale_factor=2.0), features


def patched(build, name):
    model = build(name, **({'mix_prob': 0.0} if name == 'CSRM' else {}))
    for network in (model.student, model.teacher) if name == 'CSRM' else (model,):
        network.backbone = Patches()
        torch.nn.init.normal_(network.cam_head.conv.weight, generator=torch.Generator().manual_seed(3))
    return model


def losses_of(model, batch, names):
    data = model.data_preprocessor(batch, True)
    model.eval()  # the statistics of a batch norm would tell one batch from another
    losses = model.loss(data['inputs'], data['data_samples'])
    return torch.stack([losses[name].detach() for name in names])


@pytest.mark.parametrize(
    ('name', 'names'),
    [('CAMClassifier', ['loss_c']), ('PuzzleCAM', ['loss_c', 'loss_c_tiles', 'loss_re']), ('CSRM', ['loss_c'])],
)
def test_losses_of_padded_pictures(build, make_batch, name, names):
    """A picture of 32 x 32 and one of 16 x 32: their padded batch costs the mean of what each costs alone."""
    model = patched(build, name)
    batch = make_batch((32, 32), (16, 32))
    batch['inputs'][0][:] = 90  # of one colour, so that tiles and wholes agree wherever they are cut
    model.data_preprocessor.size, model.data_preprocessor.size_divisor = None, 1
    together = losses_of(model, batch, names)
    alone = [
        losses_of(model, dict(inputs=batch['inputs'][n : n + 1], data_samples=batch['data_samples'][n : n + 1]), names)
        for n in range(2)
    ]
    expected = (alone[0] + alone[1]) / 2
    if name == 'PuzzleCAM':  # tiles of a padded picture are cut elsewhere, but patches are alike wherever they are
        together, expected = together[:2], expected[:2]
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('place', 'expected'), [('padding', 0.0), ('picture', 16 / (24 * 4))])
def test_the_distance_of_the_tiles_is_the_mean_over_the_pictures_positions(build, make_batch, place, expected):
    model = patched(build, 'PuzzleCAM')
    data = model.data_preprocessor(make_batch((32, 32), (16, 32)), True)
    forward, calls = model._forward, []

    def shifted(inputs, *_):
        """The merged map, of the second call, is off by one in one half of the second picture."""
        calls.append(inputs)
        cam = forward(inputs)
        if len(calls) == 2:  # tiles in the order of rows: two of the upper half, two of the lower
            cam[4:6] += place == 'picture'
            cam[6:8] += place == 'padding'
        return cam

    model._forward = shifted
    losses = model.loss(data['inputs'], data['data_samples'])
    # 16 positions of the first picture and 8 of the second, 4 classes; 8 positions of 2 classes are off.
    assert losses['loss_re'].item() == pytest.approx(model.reconstruction_weight * expected, abs=1e-5)


@pytest.mark.parametrize('name', ['CAMClassifier', 'PuzzleCAM'])
def test_padding_of_one_process_asks_nothing_of_the_others(build, make_batch, name, monkeypatch):
    """A collective that only the process with padding enters would leave the others waiting."""
    model = patched(build, name)
    calls = []
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda *_: 2)
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda *args, **kwargs: calls.append(args))
    for sizes in (((32, 32), (32, 32)), ((32, 32), (16, 32))):
        data = model.data_preprocessor(make_batch(*sizes), True)
        model.loss(data['inputs'], data['data_samples'])
        assert calls == []


@pytest.mark.parametrize('name', ['CAMClassifier', 'PuzzleCAM', 'CSRM'])
def test_class_scores_of_predictions(build, make_batch, name):
    model = patched(build, name).eval()
    batch = make_batch((16, 32))
    inputs = batch['inputs'][0]
    (plain,) = model.test_step(batch)
    batch = make_batch((16, 32))
    batch['inputs'][0] = nn.functional.pad(inputs, (0, 0, 0, 16), value=200)
    batch['data_samples'][0].set_metainfo(dict(img_padding_size=(0, 0, 0, 16)))
    (padded,) = model.test_step(batch)
    torch.testing.assert_close(padded.pred_image_labels.scores, plain.pred_image_labels.scores)
    torch.testing.assert_close(padded.cam_logits.data[:, :8], plain.cam_logits.data[:, :8])
