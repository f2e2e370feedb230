"""What all tests share. They run on the CPU and offline; those that take minutes are marked `long`."""

import functools
import gc
import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import utils as config_utils
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import csrm_plugin  # noqa: F401  (mends and registers, as every run does)
from csrm_plugin.config.load import load_config
from csrm_plugin.datasets.synthetic import ensure_synthetic

ROOT = Path(__file__).resolve().parent.parent
SIZE = (48, 40)  # width, height in pixels

# Each data set of the host collects garbage: half a second a time among all that has been imported here.
gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def _no_tracking_service():
    """No test starts W&B runs unless it asks for them."""
    patch = pytest.MonkeyPatch()
    patch.setenv('WANDB_MODE', 'disabled')
    for name in ('WANDB_SWEEP_ID', 'WANDB_RUN_ID', 'WANDB_RUN_GROUP'):
        patch.delenv(name, raising=False)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope='session')
def _quick_configs():
    """What takes the host long with configs, and shows in no result.

    A Runner writes its config seven times; laying it out nicely takes as long as the rest of a tiny training. And for
    each config that inherits from the host it reads all its 53 model indices.
    """
    with pytest.MonkeyPatch.context() as patch:
        # `raising`: forks and later versions of the host may have other names for them.
        patch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, False), raising=False)
        patch.setattr(config_utils, 'load', functools.cache(getattr(config_utils, 'load', dict)), raising=False)
        yield


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def root():
    """Folder of the project."""
    return ROOT


@pytest.fixture
def shared():
    """Folder with real pictures and reference values beside the project; tests that need it are skipped without."""
    folder = ROOT.parent / 'shared'
    if not folder.is_dir():
        pytest.skip(f'needs the data in {folder.name}/ beside the project')
    return folder


@pytest.fixture
def logged():
    """Messages that MMEngine's current logger gets (it keeps them from pytest's `caplog`)."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger, level = MMLogger.get_current_instance(), MMLogger.get_current_instance().level
    logger.addHandler(handler)
    logger.setLevel('INFO')  # other tests may have made it quiet
    yield messages
    logger.removeHandler(handler)
    logger.setLevel(level)


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
def checkpoint_of(tmp_path_factory):
    """Function: checkpoint with random weights for a config of the project, made once."""
    made = {}

    def make(name):
        if name not in made:
            init_default_scope('mmseg')
            torch.manual_seed(3)
            cfg = load_config(str(ROOT / 'mmcfg' / f'{name}.py'))
            if cfg.model.get('pseudo_label'):
                cfg.model.pseudo_label.crf = None
            model = MODELS.build(cfg.model)
            for module in model.modules():  # statistics that are not those of a fresh layer
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                    torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            if hasattr(model, 'update_teacher'):
                model.update_teacher(0.5)
            path = tmp_path_factory.mktemp('weights') / f'{name}.pth'
            torch.save(dict(state_dict=model.state_dict(), meta={}), path)
            made[name] = str(path)
        return made[name]

    return make
