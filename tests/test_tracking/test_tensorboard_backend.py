"""TensorBoard, where it is installed, and silence where it is not."""

import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from csrm_plugin.tracking import tensorboard_backend


def build(folder):
    backend = VISBACKENDS.build(dict(type='OptionalTensorboardBackend', save_dir=str(folder / 'vis_data')))
    backend.add_config(Config(dict(answer=42)))
    return backend


def events(folder):
    """What was written: tag to list of (step, value), and the tags of pictures and texts."""
    reader = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    read = reader.EventAccumulator(str(folder / 'vis_data'))
    read.Reload()
    tags = read.Tags()
    scalars = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in tags['scalars']}
    return scalars, tags['images'], tags['tensors']


def test_rows_have_the_iteration_as_step(tmp_path):
    pytest.importorskip('tensorboard')
    backend = build(tmp_path)
    backend.add_scalars({'loss': torch.tensor(0.5), 'time': 0.25, 'text': 'x', 'iter': 10}, step=10)
    backend.add_scalars({'seg/mIoU': np.float64(50.0), 'time': 0.75}, step=10)
    backend.add_scalar('loss', 0.25, step=20)
    backend.add_image('sample', np.zeros((4, 6, 3), np.uint8), step=20)
    backend.close()
    backend.add_scalar('loss', 9.0, step=30)  # after the end
    scalars, pictures, texts = events(tmp_path)
    assert scalars == {
        'loss': [(10, 0.5), (20, 0.25)],
        'time': [(10, 0.25)],
        'iter': [(10, 10)],
        'seg/mIoU': [(10, 50)],
        'val/time': [(10, 0.75)],
    }
    assert pictures == ['sample'] and texts == ['config/text_summary']


def test_nothing_is_written_without_a_value(tmp_path):
    backend = build(tmp_path)
    backend.add_scalar('text', 'x')
    backend.close()
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_there_is_one_line(tmp_path, monkeypatch, logged):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    backend = build(tmp_path)
    for step in (1, 2):
        backend.add_scalar('loss', 1.0, step=step)
    backend.add_image('sample', np.zeros((4, 6, 3), np.uint8), step=2)
    backend.close()
    assert backend.experiment is None
    assert list(tmp_path.iterdir()) == []
    assert len(logged) == 1 and 'not installed' in logged[0]


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard_backend, 'is_main_process', lambda: False)
    backend = build(tmp_path)
    backend.add_scalar('loss', 1.0, step=1)
    backend.close()
    assert list(tmp_path.iterdir()) == []
