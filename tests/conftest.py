"""What all tests share. They run on the CPU and offline; those that take minutes are marked `long`."""

from pathlib import Path

import pytest
import torch

import csrm_plugin  # noqa: F401  (mends and registers, as every run does)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope='session')
def _no_tracking_service():
    """No test starts W&B runs unless it asks for them."""
    patch = pytest.MonkeyPatch()
    patch.setenv('WANDB_MODE', 'disabled')
    for name in ('WANDB_SWEEP_ID', 'WANDB_RUN_ID', 'WANDB_RUN_GROUP'):
        patch.delenv(name, raising=False)
    yield
    patch.undo()


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
