import time

import numpy as np
import pytest
import torch
from torch import nn

from csrm_plugin.inference import benchmark
from csrm_plugin.models.segmentors import RML
from csrm_plugin.utils import UserError

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
        row = benchmark.cost_of(benchmark.Candidate('toy', Toy()), inputs)
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


class Averaging(Toy):
    """Averages views by itself, as a model of any method may."""

    prediction_views = ((1.0,), False)

    def predict(self, inputs):
        self.asked = (tuple(inputs.shape[2:]), self.prediction_views)
        return super().predict(inputs)


def test_a_model_with_views_of_its_own_is_told_them_and_predicts_once():
    model = Averaging()
    benchmark.Candidate('toy', model, scales=(0.5, 1.0), flip=True).predict(torch.randn(1, 3, 8, 8))
    assert model.asked == ((8, 8), ((0.5, 1.0), True))


def test_the_stride_is_that_of_the_last_stage_whatever_view_comes_first():
    class Strided(Toy):
        def __init__(self):
            super().__init__()
            self.backbone[0].stride = (4, 4)

    for scales in ((1.0,), (0.5, 1.0), (2.0,)):
        row = benchmark.cost_of(benchmark.Candidate('toy', Strided(), scales), torch.randn(1, 3, 16, 16))
        assert row['stride'] == 4


def test_views_multiply_the_work():
    inputs = torch.randn(1, 3, 8, 8)
    once = benchmark.cost_of(benchmark.Candidate('toy', Toy()), inputs)['multiply_adds']
    both = benchmark.cost_of(benchmark.Candidate('toy', Toy(), flip=True), inputs)
    assert both['multiply_adds'] == 2 * once > 0 and both['views'] == '1, flip'
    half = benchmark.cost_of(benchmark.Candidate('toy', Toy(), scales=(0.5,)), inputs)['multiply_adds']
    assert once / 16 < half < once / 4  # attention shrinks with the square


def test_figures_are_those_of_the_paper():
    """SegFormer-B0 on ADE20K, Table 1 of its paper: 3.8 M parameters, 8.4 G multiply-adds at 512 x 512."""
    candidate = benchmark.Candidate('b0', benchmark.build_model(benchmark.read_any_config(SEGFORMER), SEGFORMER, 150))
    with torch.no_grad():
        row = benchmark.cost_of(candidate, torch.randn(1, 3, 512, 512))
    assert (round(row['parameters']['total'] / 1e6, 1), round(row['multiply_adds'] / 1e9, 1)) == (3.8, 8.4)


def test_networks_of_host_and_ours_side_by_side(root):
    report = benchmark.compare_inference(
        [str(root / 'mmcfg' / 'rml_demo.py'), SEGFORMER, str(root / 'mmcfg' / 'csrm_demo.py')],
        size=(64, 96),
        repeats=2,
        device='cpu',
    )
    rows = report['rows']
    names = ['rml_demo', 'rml_demo', 'segformer_mit-b0_8xb2-160k_ade20k-512x512', 'csrm_demo']
    assert [row['name'] for row in rows] == names
    assert [row['views'] for row in rows] == ['1', '0.75 1 1.25, flip', '1', '1']
    assert report['context']['classes'] == 7 and report['context']['weights'] == 'random'
    assert report['context']['size'] == [64, 96] and report['context']['device'].startswith('cpu')
    rml, multi, segformer, csrm = (row['parameters'] for row in rows)
    assert rml == multi and rows[1]['multiply_adds'] > 4 * rows[0]['multiply_adds']
    assert rml['parts']['context_head']['used'] == 0 < rml['parts']['context_head']['total']
    assert rml['parts']['affinity_head']['used'] == rml['parts']['affinity_head']['total'] > 0
    assert segformer['used'] == segformer['total']
    head = segformer['parts']['decode_head']['total']
    # four 1x1 convolutions to 256 and one from 1024, each with a norm, and the classes
    assert head == (32 + 64 + 160 + 256) * 256 + 4 * 256 * 256 + 5 * 2 * 256 + (256 + 1) * 7
    used = {name: part['used'] for name, part in csrm['parts'].items() if part['used']}
    assert (
        csrm['used'] == sum(used.values()) < csrm['total'] / 2 + 1 and len({name.split('.')[0] for name in used}) == 1
    )
    assert [row['stride'] for row in rows] == [rows[0]['stride']] * 2 + [32, rows[3]['stride']]
    for row in rows:
        assert 0 < row['rest']['seconds']['max'] < row['seconds']['max']
    assert rows[0]['ratio'] == dict(median=1, min=1, max=1)
    lines = benchmark.notes(report)
    assert 'size 64 x 96' in lines[0] and 'weights random' in lines[0] and len(lines) == 1 + 3 + 1
    assert 'context_head' in lines[1] and '(0 used)' in lines[1]
    assert benchmark.table(report).row_count == 4


def test_settings_of_rml_follow_the_scales_asked_for(root):
    report = benchmark.compare_inference(
        [str(root / 'mmcfg' / 'rml_demo.py')], (64, 64), (0.75, 1, 1.25), True, repeats=1, device='cpu', classes=3
    )
    assert [row['views'] for row in report['rows']] == ['0.75 1 1.25, flip']  # its own, so one row
    assert report['rows'][0]['parameters']['parts']['cam_head']['total'] == 2 * 128


def test_built_networks_need_no_weights_and_no_gpu(root, monkeypatch):
    monkeypatch.setattr(torch.hub, 'download_url_to_file', pytest.fail)
    cfg = benchmark.read_any_config(SEGFORMER)
    model = benchmark.build_model(cfg, SEGFORMER, 4)
    assert not model.training and not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert cfg.model.decode_head.num_classes == 150  # as it was
    rml = benchmark.build_model(benchmark.read_any_config(str(root / 'mmcfg' / 'rml_voc.py')), 'rml', 4)
    assert isinstance(rml, RML) and rml.cam_head.num_classes == 3


def test_turns_are_taken_and_the_first_round_does_not_count():
    calls = []
    times = benchmark.take_turns([lambda: calls.append('a'), lambda: (calls.append('b'), time.sleep(0.002))], 3)
    assert calls == ['a', 'b'] * 4
    assert [len(own) for own in times] == [3, 3] and min(times[1]) >= 0.002


def test_summary_by_hand():
    first, second = benchmark.summarise([[1.0, 2.0, 4.0], [3.0, 2.0, 2.0]])
    assert first == dict(seconds=dict(median=2, min=1, max=4), ratio=dict(median=1, min=1, max=1))
    # round by round: 3, 1, 0.5, whose median is not that of the medians
    assert second == dict(seconds=dict(median=2, min=2, max=3), ratio=dict(median=1, min=0.5, max=3))


def test_refinements_get_the_same_maps(monkeypatch):
    seen = {}
    monkeypatch.setattr(benchmark, 'dense_crf', lambda picture, probs: seen.update(crf=(picture, probs)))
    monkeypatch.setattr(benchmark, 'pixel_adaptive_refinement', lambda images, masks: seen.update(par=(images, masks)))
    report = benchmark.compare_refinement((48, 64), classes=3, repeats=2, device='cpu')
    (picture, probs), (images, masks) = seen['crf'], seen['par']
    assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), picture)
    assert masks.shape == (1, 3, 48, 64) and np.array_equal(masks[0].numpy(), probs)
    np.testing.assert_allclose(probs.sum(axis=0), 1, rtol=1e-5)
    assert [row['name'].split()[0] for row in report['rows']] == ['dCRF', 'PAR']


def test_refinements_run():
    pytest.importorskip('pydensecrf')
    report = benchmark.compare_refinement((32, 40), repeats=1, device='cpu')
    assert all(row['seconds']['median'] > 0 for row in report['rows'])
    assert benchmark.table(report).row_count == 2 and len(benchmark.notes(report)) == 1


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(size=(16, 64)), '--size must be at least 32 pixels on each side, but is 16 x 64'),
        (dict(repeats=0), '--repeats must be at least 1, but is 0'),
        (dict(scales=(0.5, 0)), '--scales must be above 0'),
        (dict(scales=(0.4,), size=(64, 64)), 'at least 32 pixels'),
        (dict(classes=1), '--classes must be at least 2'),
        (dict(device='cuda:99'), 'no such device'),
    ],
)
def test_impossible_settings_are_one_line(options, message, root):
    with pytest.raises(UserError, match=message):
        benchmark.compare_inference([str(root / 'mmcfg' / 'rml_demo.py')], **{'size': (64, 64), **options})


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('mmseg::segformer/nothing.py', 'does not exist'),
        ('nopackage::segformer/x.py', r'there is no package `nopackage`; did you mean mmseg::segformer/x\.py'),
        ('{tmp}/empty.py', 'has no model'),
        ('{tmp}/other.py', 'neither a cam_head nor one decode_head'),
    ],
)
def test_unusable_configs_are_one_line(config, message, tmp_path):
    (tmp_path / 'empty.py').write_text('a = 1\n')
    (tmp_path / 'other.py').write_text("model = dict(type='EncoderDecoder', decode_head=[dict(num_classes=3)])\n")
    with pytest.raises(UserError, match=message):
        benchmark.compare_inference([config.format(tmp=tmp_path)], size=(64, 64), device='cpu')
