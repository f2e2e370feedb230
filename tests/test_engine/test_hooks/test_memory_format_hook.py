from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from csrm_plugin.engine.hooks import MemoryFormatHook
from csrm_plugin.utils.models import suit_memory_format


def make_model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(72, 2))


def is_channels_last(model):
    weights = [value for value in model.parameters() if value.ndim == 4 and value.shape[1] > 1 and value.shape[2] > 1]
    return all(value.is_contiguous(memory_format=torch.channels_last) for value in weights)


def test_weights_are_laid_out_also_inside_a_wrapper():
    model = make_model()
    inputs = torch.randn(2, 3, 8, 8)
    expected = model(inputs)
    assert not is_channels_last(model)
    MemoryFormatHook().before_run(SimpleNamespace(model=SimpleNamespace(module=model)))
    assert is_channels_last(model)
    torch.testing.assert_close(model(inputs), expected)


def test_loading_weights_and_an_optimiser_keeps_the_layout():
    model, other = suit_memory_format(make_model()), make_model()
    model.load_state_dict(other.state_dict())
    assert is_channels_last(model)
    torch.testing.assert_close(model[0].weight, other[0].weight)
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9) for network in (other, model)]
    inputs = torch.randn(2, 3, 8, 8)
    other(inputs).sum().backward()
    optimizers[0].step()
    model.load_state_dict(other.state_dict())
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))  # of a run with another layout
    for network, optimizer in zip((other, model), optimizers):
        optimizer.zero_grad()
        network(inputs).sum().backward()
        optimizer.step()
    torch.testing.assert_close(model[0].weight, other[0].weight, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_keeps_its_own():
    assert not is_channels_last(suit_memory_format(make_model()[:3].cuda()))
