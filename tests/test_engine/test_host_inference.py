"""The host's own way to a prediction, `init_model` and `inference_model`, with our configs."""

from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import inference_model, init_model, show_result_pyplot
from mmseg.registry import DATASETS, MODELS

from csrm_plugin.utils import UserError

ROOT = Path(__file__).parents[2]
NAMES = ('cam_demo', 'puzzle_demo', 'csrm_demo')


@pytest.fixture(scope='module', params=NAMES)
def loaded(request, tmp_path_factory):
    """A model from config and checkpoint, as the host makes it; its weights are random."""
    torch.manual_seed(0)
    config, checkpoint = ROOT / 'mmcfg' / f'{request.param}.py', tmp_path_factory.mktemp('model') / 'epoch_1.pth'
    cfg = Config.fromfile(config)
    with MODELS.switch_scope_and_registry('mmseg') as models:
        source = models.build(cfg.model)
    for name, buffer in source.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(std=0.1)
    metainfo = DATASETS.get(cfg.test_dataloader.dataset.type).METAINFO
    torch.save(dict(state_dict=source.state_dict(), meta=dict(dataset_meta=metainfo)), checkpoint)
    model = init_model(str(config), str(checkpoint), device='cpu')
    for name, value in source.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert model.dataset_meta == metainfo and not model.training
    return model


@pytest.fixture
def model(loaded):
    """The same with its config as it was: the host changes it."""
    loaded.cfg = Config.fromfile(loaded.cfg.filename)
    return loaded


@pytest.fixture
def pictures(tmp_path):
    """Two BGR pictures and their files."""
    arrays = [np.random.default_rng(seed).integers(0, 256, (50, 70, 3), dtype=np.uint8) for seed in range(2)]
    paths = [str(tmp_path / f'{number}.png') for number in range(2)]
    for path, array in zip(paths, arrays):
        mmcv.imwrite(array, path)
    return arrays, paths


def test_files_and_arrays_one_and_several_give_the_same(model, pictures):
    arrays, paths = pictures
    from_files = inference_model(model, paths)
    results = [*from_files, inference_model(model, paths[0])]
    # From here on arrays: the host changes the loading step of the model's pipeline for good.
    results += [*inference_model(model, arrays), inference_model(model, arrays[0])]
    assert len(results) == 6
    for index, result in enumerate(results):
        expected = from_files[index % 3 % 2]
        assert result.pred_sem_seg.data.shape == (1, 50, 70)
        assert result.cam_logits.data.shape == (6, 50, 70)
        for field in ('pred_sem_seg', 'cam_logits'):
            torch.testing.assert_close(result.get(field).data, expected.get(field).data)
    assert not torch.equal(from_files[0].cam_logits.data, from_files[1].cam_logits.data)


def test_prediction_is_that_of_the_network_on_the_resized_rgb_picture(model, pictures):
    array = pictures[0][0]
    rgb = mmcv.imresize(array, (128, 96))[..., ::-1].astype(np.float32)
    inputs = torch.from_numpy((rgb - 127.5) / 63.75).permute(2, 0, 1)[None]
    network = getattr(model, 'teacher', model)
    with torch.no_grad():
        features = network.backbone(inputs)
        maps = dict(cam_logits=network.cam_head(features))
        if network is not model:
            maps['seg_logits'] = network.decode_head(features)
    result = inference_model(model, array)
    for field, values in maps.items():
        for size in ((96, 128), (50, 70)):
            values = torch.nn.functional.interpolate(values, size, mode='bilinear', align_corners=False)
        torch.testing.assert_close(result.get(field).data, values[0], rtol=1e-4, atol=1e-5)


def test_result_can_be_drawn(model, pictures, tmp_path):
    result = inference_model(model, pictures[1][0])
    drawn = show_result_pyplot(model, pictures[1][0], result, show=False, out_file=str(tmp_path / 'out.png'))
    assert drawn.shape == (50, 70, 3)
    assert mmcv.imread(str(tmp_path / 'out.png')).shape == (50, 70, 3)


@pytest.mark.parametrize('name', NAMES)
def test_weights_under_the_old_name_are_refused(name):
    cfg = Config.fromfile(ROOT / 'mmcfg' / f'{name}.py')
    with (
        MODELS.switch_scope_and_registry('mmseg') as models,
        pytest.raises(UserError, match=r"`model\.pretrained` is 'w\.pth', but nothing reads it: .*backbone\.init_cfg"),
    ):
        models.build(dict(cfg.model, pretrained='w.pth'))
