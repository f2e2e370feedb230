import numpy as np
import pytest

from csrm_plugin.inference import benchmark
from csrm_plugin.inference.benchmark import compare
from csrm_plugin.utils import UserError

SEGFORMER = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


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


def test_refinements_get_the_same_maps(monkeypatch):
    seen = {}
    monkeypatch.setattr(compare, 'dense_crf', lambda picture, probs: seen.update(crf=(picture, probs)))
    monkeypatch.setattr(compare, 'pixel_adaptive_refinement', lambda images, masks: seen.update(par=(images, masks)))
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
