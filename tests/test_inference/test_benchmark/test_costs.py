import pytest
import torch
from torch import nn

from csrm_plugin.inference.benchmark.candidates import Candidate, build_model, read_any_config
from csrm_plugin.inference.benchmark.costs import cost_of

SEGFORMER = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


class Toy(nn.Module):
    """A backbone, a head that predicts, a head that does not, and a parameter that is only asked for its shape."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU())
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 5)
        self.unused = nn.Linear(4, 7)
        self.eval()

    def predict(self, inputs):
        features = self.backbone(inputs).flatten(2).transpose(1, 2)
        assert self.unused.weight.shape[0] == 7 and self.unused.weight.device == inputs.device
        return self.head(self.attention(features, features, features)[0])


@pytest.mark.parametrize('grad', [True, False])
def test_parameters_and_products_of_a_toy_by_hand(grad):
    inputs = torch.randn(1, 3, 4, 5)
    with torch.set_grad_enabled(grad):
        row = cost_of(Candidate('toy', Toy()), inputs)
    attention = 3 * 4 * 4 + 3 * 4 + 4 * 4 + 4
    parts = {'backbone': 3 * 4 * 9, 'attention': attention, 'head': 25}
    assert row['parameters'] == dict(
        total=sum(parts.values()) + 35,
        used=sum(parts.values()),
        parts={name: dict(total=count, used=count) for name, count in parts.items()}
        | {'unused': dict(total=35, used=0)},
    )
    positions = 4 * 5
    products = positions * (3 * 4 * 9 + 4 * 3 * 4 + 4 * 4 + 4 * 5) + 2 * positions**2 * 4  # and two of attention
    assert row['multiply_adds'] == products
    assert row['rest_multiply_adds'] == products - positions * 3 * 4 * 9
    assert (row['name'], row['views'], row['stride']) == ('toy', '1', 1)


def test_the_stride_is_that_of_the_last_stage_whatever_view_comes_first():
    class Strided(Toy):
        def __init__(self):
            super().__init__()
            self.backbone[0].stride = (4, 4)

    for scales in ((1.0,), (0.5, 1.0), (2.0,)):
        row = cost_of(Candidate('toy', Strided(), scales), torch.randn(1, 3, 16, 16))
        assert row['stride'] == 4


def test_views_multiply_the_work():
    inputs = torch.randn(1, 3, 8, 8)
    once = cost_of(Candidate('toy', Toy()), inputs)['multiply_adds']
    both = cost_of(Candidate('toy', Toy(), flip=True), inputs)
    assert both['multiply_adds'] == 2 * once > 0 and both['views'] == '1, flip'
    half = cost_of(Candidate('toy', Toy(), scales=(0.5,)), inputs)['multiply_adds']
    assert once / 16 < half < once / 4  # attention shrinks with the square


def test_figures_are_those_of_the_paper():
    """SegFormer-B0 on ADE20K, Table 1 of its paper: 3.8 M parameters, 8.4 G multiply-adds at 512 x 512."""
    candidate = Candidate('b0', build_model(read_any_config(SEGFORMER), SEGFORMER, 150))
    with torch.no_grad():
        row = cost_of(candidate, torch.randn(1, 3, 512, 512))
    assert (round(row['parameters']['total'] / 1e6, 1), round(row['multiply_adds'] / 1e9, 1)) == (3.8, 8.4)
