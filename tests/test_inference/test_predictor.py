import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from csrm_plugin.config.load import load_config
from csrm_plugin.engine.testing import prepare_testing
from csrm_plugin.inference import predictor as inference
from csrm_plugin.inference.predictor import MultiScalePredictor, tile_starts
from csrm_plugin.inference.pseudo_labels import split_dataset
from csrm_plugin.inference.views import Views, view_pipeline
from csrm_plugin.models.checkpoints.prediction import load_model
from csrm_plugin.utils import UserError

SCALES = (0.5, 1.0, 1.5)


def views_of(cfg, scales, index=0):
    dataset = split_dataset(cfg, 'val', with_labels=True)
    info = dataset.get_data_info(index)
    views = Views([info], view_pipeline(cfg.test_dataloader.dataset.pipeline, scales))[0]
    return views['inputs'], views['data_samples'][0].ori_shape[:2]


def test_averages_are_those_of_the_hosts_test_time_augmentation(root, demo_options, checkpoint_of, tmp_path):
    config, checkpoint = str(root / 'mmcfg' / 'csrm_demo.py'), checkpoint_of('csrm_demo')
    cfg = load_config(config, demo_options)
    model = load_model(cfg, checkpoint)
    inputs, size = views_of(cfg, SCALES)
    ours = MultiScalePredictor(model, flip=True)(inputs, size)

    from mmengine.runner import Runner

    tta = prepare_testing(config, checkpoint, demo_options, work_dir=str(tmp_path), tta=True)
    resizes = [dict(type='Resize', scale=tuple(int(s * side) for side in (48, 40)), keep_ratio=False) for s in SCALES]
    tta.test_dataloader.dataset.pipeline[1].transforms[0] = resizes
    tta.default_hooks = dict(checkpoint=None)
    runner = Runner.from_cfg(tta)
    runner.load_or_resume()
    runner.model.eval()
    batch = next(iter(runner.test_dataloader))
    with torch.no_grad():
        host = runner.model.test_step(batch)[0]
    assert torch.allclose(ours.cam, host.cam_logits.data, atol=1e-5)
    assert torch.allclose(ours.probs, host.seg_logits.data.softmax(dim=0), atol=1e-5)
    assert torch.allclose(ours.scores, host.pred_image_labels.scores, atol=1e-6)
    assert ours.tile is None


class Pixelwise(torch.nn.Module):
    """A segmentor that looks at single pixels, so that tiles change nothing; refuses inputs that are too large."""

    align_corners = False

    def __init__(self, limit=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, -1]]) / 255)
        self.limit, self.sizes = limit, []

    def test_step(self, batch):
        (image,), (sample,) = batch['inputs'], batch['data_samples']
        self.sizes.append(tuple(image.shape[1:]))
        if self.limit is not None and image[0].numel() > self.limit:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        sample.seg_logits = PixelData(data=torch.einsum('kc,chw->khw', self.weight, image.float()))
        return [sample]


@pytest.fixture
def picture():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 300, 421), dtype=np.uint8))


def test_tiles_are_used_when_memory_is_short_and_it_is_said(picture, monkeypatch):
    said = []
    monkeypatch.setattr(inference, 'print_log', lambda text, **_: said.append(text))
    whole = MultiScalePredictor(Pixelwise(), flip=True)([picture], (300, 421))
    model = Pixelwise(limit=150 * 300)
    predictor = MultiScalePredictor(model, flip=True)
    tiled = predictor([picture], (300, 421))
    assert torch.allclose(whole.probs, tiled.probs, atol=1e-6)
    assert (whole.tile, tiled.tile) == (None, 210)
    assert len(said) == 1 and 'a side above 210 pixels are cut' in said[0]
    # What fits in one piece is not cut afterwards, and what does not fit is not tried in one piece again.
    model.sizes.clear()
    assert predictor([picture[:, :100, :200]], (100, 200)).tile is None
    predictor([picture], (300, 421))
    assert max(max(size) for size in model.sizes) <= 210


def test_tiles_of_a_network_with_cams_are_close_to_the_whole(root, demo_options, checkpoint_of, picture):
    cfg = load_config(str(root / 'mmcfg' / 'csrm_demo.py'), demo_options)
    model = load_model(cfg, checkpoint_of('csrm_demo'))
    whole = MultiScalePredictor(model)([picture], (300, 421))
    tiled = MultiScalePredictor(model, tile=256)([picture], (300, 421))
    assert tiled.tile == 256 and tiled.cam.shape == whole.cam.shape and tiled.probs.shape == whole.probs.shape
    assert torch.allclose(tiled.probs.sum(dim=0), torch.ones(300, 421), atol=1e-5)
    assert torch.allclose(tiled.scores, whole.scores, atol=0.05)
    middle = (slice(None), slice(100, 200), slice(60, 120))  # far from the borders of the tiles
    spread = whole.cam[middle].std()
    assert (tiled.cam[middle] - whole.cam[middle]).abs().mean() < 0.5 * spread


def test_memory_that_is_too_small_for_any_tile_ends_in_one_line(picture):
    with pytest.raises(UserError, match='out of memory even with tiles of 210 pixels'):
        MultiScalePredictor(Pixelwise(limit=10))([picture], (300, 421))
    with pytest.raises(UserError, match='--tile must be at least 128'):
        MultiScalePredictor(Pixelwise(), tile=64)


def test_other_errors_are_not_taken_for_memory(picture):
    class Broken(Pixelwise):
        def test_step(self, batch):
            raise RuntimeError('shapes do not fit')

    with pytest.raises(RuntimeError, match='shapes do not fit'):
        MultiScalePredictor(Broken())([picture], (300, 421))


@pytest.mark.parametrize('length, tile', [(10, 4), (100, 30), (30, 30), (31, 30), (5, 8)])
def test_tiles_cover_a_side(length, tile):
    starts = tile_starts(length, tile)
    covered = np.zeros(length, dtype=int)
    for start in starts:
        covered[start : start + tile] += 1
    assert covered.min() >= 1 and len(set(starts)) == len(starts)
    assert all(start + tile <= length or length < tile for start in starts)
