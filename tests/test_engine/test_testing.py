import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from csrm_plugin.config.load import load_config
from csrm_plugin.engine import testing
from csrm_plugin.engine.testing import prepare_testing, run_test
from csrm_plugin.models.checkpoints.prediction import keep_training_state
from csrm_plugin.utils import MissingFileError, UserError, write_json


@pytest.fixture
def checkpoint(tmp_path):
    """Weights that predict class 1 everywhere but in the first picture, whose pixels are 0."""
    weight = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    torch.save(dict(state_dict={'conv.weight': weight, 'conv.bias': torch.zeros(2)}), tmp_path / 'c.pth')
    return str(tmp_path / 'c.pth')


def test_metrics_predictions_and_context_are_kept(toy, checkpoint, tmp_path):
    cfg = prepare_testing(toy, checkpoint, dict(experiment_name='kept'), work_dir='work')
    metrics = run_test(cfg, out_dir='out', json_path='deep/out.json')
    assert metrics['seg/mIoU'] == 50
    report = json.loads((tmp_path / 'deep' / 'out.json').read_text())
    assert report['seg/mIoU'] == 50
    assert report['per_class'] == {'thing': None}
    assert report['context'] == dict(
        weights=None,  # this model has no teacher
        config=toy,
        checkpoint=checkpoint,
        seed=0,
        tta=False,
        ann_file=None,
        pictures=3,
        split='val',
    )
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['p0.png', 'p1.png', 'p2.png']
    for index, label in enumerate([0, 1, 1]):
        picture = Image.open(tmp_path / 'out' / f'p{index}.png')
        assert picture.mode == 'P'
        assert picture.size == (5, 4)
        assert (np.asarray(picture) == label).all()
        assert picture.getpalette()[3:6] == [9, 8, 7]


def test_mistakes_are_told_before_anything_is_built(toy, checkpoint):
    with pytest.raises(MissingFileError, match=r'checkpoint `nowhere\.pth` does not exist'):
        prepare_testing(toy, 'nowhere.pth')
    with pytest.raises(UserError, match='--tta needs tta_model and tta_pipeline'):
        prepare_testing(toy, checkpoint, tta=True)
    with pytest.raises(UserError, match='no test_dataloader'):
        prepare_testing(toy, checkpoint, dict(test_dataloader=None))


def test_tta_wraps_the_model(toy, checkpoint):
    with open(toy, 'a') as file:
        file.write("tta_model = dict(type='SegTTAModel')\ntta_pipeline = [dict(type='LoadImageFromFile')]\n")
    cfg = prepare_testing(toy, checkpoint, tta=True)
    assert cfg.model.type == 'SegTTAModel'
    assert cfg.model.module.type == 'ToyNet'
    assert cfg.test_dataloader.dataset.pipeline == cfg.tta_pipeline


def test_json_is_strict_and_whole_or_not_there(tmp_path):
    path = tmp_path / 'x.json'
    write_json(path, {'a': np.float32(0.5), 'b': [np.int64(1), float('inf')], 3: np.array([1, 2])})
    assert json.loads(path.read_text()) == {'a': 0.5, 'b': [1, None], '3': [1, 2]}
    with pytest.raises(TypeError):
        write_json(path, {'a': object()})
    assert json.loads(path.read_text())['a'] == 0.5
    assert [file.name for file in tmp_path.iterdir()] == ['x.json']


@pytest.mark.parametrize('tta', [False, True])
def test_a_test_needs_no_part_of_the_training(root, demo_options, checkpoint_of, tmp_path, monkeypatch, logged, tta):
    config, built = str(root / 'mmcfg' / 'csrm_demo.py'), []
    content = torch.load(checkpoint_of('csrm_demo'), weights_only=True)
    state = {name: value for name, value in content['state_dict'].items() if not name.startswith('bank.')}
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'lean.pth')
    monkeypatch.setitem(sys.modules, 'pydensecrf', None)
    monkeypatch.setattr(testing, 'keep_training_state', lambda model: (built.append(model), keep_training_state(model)))
    options = demo_options | {'model.pseudo_label.crf': {}, 'experiment_name': f'lean_{tta}'}
    cfg = prepare_testing(config, str(tmp_path / 'lean.pth'), options, work_dir=str(tmp_path / 'work'), tta=tta)
    assert run_test(cfg)['cls/mAP'] > 0
    model = testing.unwrap(built[0])
    assert model.bank.capacity == 1 and model.labeler.refinement is None
    weight = model.teacher.decode_head.conv_seg.weight
    assert weight.cpu().equal(state['teacher.decode_head.conv_seg.weight'])
    assert not [line for line in logged if 'bank.' in line and 'do not match' in line]
    # What the host writes beside the results is the config of the training: one may go on from it.
    written = load_config(str(tmp_path / 'work' / 'csrm_demo.py')).model
    written = written.module if tta else written
    assert written == load_config(config, options).model
