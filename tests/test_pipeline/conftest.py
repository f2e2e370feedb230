"""A demo data set of a few small pictures, and models with random weights that fit its configs."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.engine.config import load_config

SIZE = (48, 40)  # width, height in pixels


@pytest.fixture(scope='session')
def demo_root(tmp_path_factory):
    """Data root: 4 training and 3 validation pictures."""
    root = tmp_path_factory.mktemp('demo_data')
    ensure_synthetic(str(root), image_size=SIZE, num_train=4, num_val=3, seed=0)
    return root


@pytest.fixture
def demo_options(demo_root, monkeypatch):
    """Overrides that make the demo configs use it, at its size."""
    monkeypatch.setenv('DEMO_ROOT', str(demo_root))
    dataset = 'test_dataloader.dataset'
    return {
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        f'{dataset}.data_root': str(demo_root),
        f'{dataset}.image_size': SIZE,
        f'{dataset}.num_train': 4,
        f'{dataset}.num_val': 3,
        f'{dataset}.pipeline.1.scale': SIZE,
    }


@pytest.fixture(scope='session')
def checkpoint_of(root_folder, tmp_path_factory):
    """Function: checkpoint with random weights for a config of the project, made once."""
    made = {}

    def make(name):
        if name not in made:
            init_default_scope('mmseg')
            torch.manual_seed(3)
            cfg = load_config(str(root_folder / 'mmcfg' / f'{name}.py'))
            if cfg.model.get('pseudo_label'):
                cfg.model.pseudo_label.crf = None
            model = MODELS.build(cfg.model)
            for module in model.modules():  # statistics that are not those of a fresh layer
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                    torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            if hasattr(model, 'update_teacher'):
                model.update_teacher(0.5)
            path = tmp_path_factory.mktemp('weights') / f'{name}.pth'
            torch.save(dict(state_dict=model.state_dict(), meta={}), path)
            made[name] = str(path)
        return made[name]

    return make


@pytest.fixture(scope='session')
def root_folder(request):
    """Folder of the project."""
    return request.config.rootpath
