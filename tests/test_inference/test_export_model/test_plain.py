import pytest
from mmengine.config import Config

from csrm_plugin.datasets.synthetic_dataset import SyntheticWSSSDataset
from csrm_plugin.inference.export_model import export_model
from csrm_plugin.utils import UserError

METAINFO = SyntheticWSSSDataset.METAINFO


RESNEST = dict(backbone='WSSSResNeSt', depth=50, channels=256, rgb=True)


def test_plain_model_keeps_its_parts_of_ours_and_names_the_package(plain, picture, tmp_path):
    config, checkpoint = plain(**RESNEST)
    report = export_model(config, checkpoint, tmp_path / 'out')
    assert report['network'] is None and report['classes'] == list(METAINFO['classes'])  # the data set's
    cfg = Config.fromfile(tmp_path / 'out' / 'config.py')
    assert cfg.custom_imports.imports == ['csrm_plugin']
    assert cfg.model.backbone.type == 'WSSSResNeSt' and cfg.model.backbone.norm_cfg.type == 'BN'
    assert 'init_cfg' not in cfg.model.backbone and cfg.model.test_cfg == dict(mode='whole')
    assert [step.type for step in cfg.test_pipeline] == ['LoadImageFromFile', 'Resize', 'PackSegInputs']
    assert cfg.test_pipeline[-1].meta_keys == ('img_path', 'ori_shape', 'img_shape')
    again = export_model(tmp_path / 'out' / 'config.py', tmp_path / 'out' / 'model.pth', tmp_path / 'again')
    assert again['model.pth'] == report['model.pth']
    assert (tmp_path / 'again' / 'config.py').read_text() == (tmp_path / 'out' / 'config.py').read_text()
    with pytest.raises(UserError, match=r'--network student: .* is a plain EncoderDecoder'):
        export_model(config, checkpoint, tmp_path / 'no', network='student')
