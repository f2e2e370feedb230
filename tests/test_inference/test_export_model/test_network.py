import sys
from pathlib import Path

import pytest
import torch

from csrm_plugin.inference.export_model import export_model
from csrm_plugin.utils import MissingFileError, UserError

ROOT = Path(__file__).parents[3]


RESNET = dict(backbone='ResNetV1c', depth=18, channels=64, rgb=False)


def test_models_and_checkpoints_that_do_not_fit_are_told(csrm, plain, tmp_path):
    config, checkpoint = csrm
    classifier = str(ROOT / 'mmcfg' / 'cam_demo.py')
    with pytest.raises(UserError, match=r'cam_demo\.py` is a CAMClassifier, which has no segmentation branch'):
        export_model(classifier, checkpoint, tmp_path / 'out')
    plain_config, plain_checkpoint = plain(**RESNET)
    with pytest.raises(UserError, match=r'plain\.pth` does not fit .* are missing \(teacher\.backbone'):
        export_model(config, plain_checkpoint, tmp_path / 'out')
    with pytest.raises(UserError, match=r'are unknown \((student|teacher|bank)[._]'):
        export_model(plain_config, checkpoint, tmp_path / 'out')
    options = {'model.decode_head.num_classes': 6, 'model.cam_head.num_classes': 5}
    with pytest.raises(
        UserError, match=r'of \d+ tensors 3 have another shape \(teacher\.decode_head\.conv_seg\.weight'
    ):
        export_model(config, checkpoint, tmp_path / 'out', cfg_options=options)
    with pytest.raises(MissingFileError, match='There is no checkpoint file nowhere'):
        export_model(config, 'nowhere.pth', tmp_path / 'out')
    content = Path(checkpoint).read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r'cut\.pth cannot be read: it is truncated'):
        export_model(config, str(tmp_path / 'cut.pth'), tmp_path / 'out')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match=r'list\.pth`: The checkpoint holds no tensors'):
        export_model(config, str(tmp_path / 'list.pth'), tmp_path / 'out')
    with pytest.raises(UserError, match=r'plain\.py` has 7 classes, but the data has 1;'):
        export_model(
            plain_config,
            plain_checkpoint,
            tmp_path / 'out',
            cfg_options={'test_dataloader.dataset.metainfo': dict(classes=['x'])},
        )
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine.txt').touch()
    with pytest.raises(UserError, match='exists and is not an empty folder'):
        export_model(config, checkpoint, tmp_path / 'out')


def test_the_network_needs_nothing_of_the_training(csrm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf', None)
    content = torch.load(csrm[1], weights_only=True)
    content['state_dict'] = {
        name: value for name, value in content['state_dict'].items() if not name.startswith('bank.')
    }
    torch.save(content, tmp_path / 'lean.pth')
    whole = export_model(*csrm, tmp_path / 'whole')
    assert export_model(csrm[0], str(tmp_path / 'lean.pth'), tmp_path / 'lean')['model.pth'] == whole['model.pth']
    states = [torch.load(tmp_path / name / 'model.pth', weights_only=True)['state_dict'] for name in ('whole', 'lean')]
    assert all(value.equal(states[1][name]) for name, value in states[0].items())
