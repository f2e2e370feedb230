"""Two processes with a part of the batch each do what torch's BatchNorm does with the whole of it."""

import copy
import multiprocessing
import os
import socket

import pytest
import torch
import torch.distributed as dist
from mmcv.cnn import build_norm_layer
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from csrm_plugin.models.layers import CPUSyncBatchNorm, use_on_cpu

CHANNELS = 3
#: Name -> pictures of both processes, options of the layer, type of the values.
CASES = {
    'even': ((2, 2), {}, torch.float32),
    'uneven': ((3, 1), {}, torch.float32),
    'empty': ((3, 0), {}, torch.float32),
    'one value each': ((1, 1), {}, torch.float32),
    'plain': ((2, 2), dict(affine=False), torch.float32),
    'average': ((2, 2), dict(momentum=None), torch.float32),
    'untracked': ((1, 2), dict(track_running_stats=False), torch.float32),
    'double': ((3, 2), {}, torch.float64),
    'half': ((2, 2), {}, torch.bfloat16),
}


def batches(sizes, dtype, side):
    """Two batches, as training sees one after the other, and the weight of each output in the loss."""
    shape = (2, sum(sizes), CHANNELS, side, side)
    random = torch.Generator().manual_seed(0)
    # A mean far from zero: a variance as mean of squares less square of the mean would lose its digits.
    values = torch.randn(shape, generator=random) * 2 + torch.tensor([0.0, 1.0, 30.0]).view(1, 1, -1, 1, 1)
    return values.to(dtype), torch.randn(shape, generator=random).to(dtype)


def run(layer, values, weights):
    """Two training steps without an update, and one prediction: outputs, gradients, buffers."""
    outputs, gradients = [], []
    for batch, weight in zip(values, weights):
        inputs = batch.clone().requires_grad_()
        output = layer(inputs)
        (output * weight).sum().backward()
        outputs.append(output.detach())
        gradients.append(inputs.grad)
    found = dict(outputs=torch.stack(outputs), gradients=torch.stack(gradients), buffers=dict(layer.named_buffers()))
    found['parameters'] = {name: value.grad for name, value in layer.named_parameters()}
    layer.eval()
    found['prediction'] = layer(values[0]).detach()
    return found


def layers(options, dtype):
    """Both layers with the same, not trivial, weights; those of half precision stay in float32."""
    plain = nn.BatchNorm2d(CHANNELS, **options).to(torch.float32 if dtype == torch.bfloat16 else dtype)
    if plain.affine:
        torch.nn.init.uniform_(plain.weight, 0.5, 2)
        torch.nn.init.uniform_(plain.bias)
    synced = CPUSyncBatchNorm(CHANNELS, **options).to(plain.weight.dtype if plain.affine else dtype)
    synced.load_state_dict(plain.state_dict())
    return plain, synced


def side_of(name):
    return 1 if name == 'one value each' else 4


def both_cases(rank):
    found = {}
    for name, (sizes, options, dtype) in CASES.items():
        torch.manual_seed(1)
        values, weights = batches(sizes, dtype, side_of(name))
        mine = [part.split(sizes, dim=1)[rank] for part in (values, weights)]
        found[name] = run(layers(options, dtype)[1], *mine)
    single = CPUSyncBatchNorm(CHANNELS)
    try:
        single(torch.zeros(1 - rank, CHANNELS, 1, 1))
    except ValueError as error:
        found['single'] = str(error)
    return found


def _process(rank, port, path):
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    torch.save(both_cases(rank), path)
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What two processes found, by rank."""
    paths = [tmp_path_factory.mktemp('ranks') / f'{rank}.pt' for rank in range(2)]
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = str(listener.getsockname()[1])
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=_process, args=(rank, port, path)) for rank, path in enumerate(paths)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(path) for path in paths]


@pytest.mark.parametrize('name', CASES)
def test_two_processes_are_one_with_the_whole_batch(name, found):
    sizes, options, dtype = CASES[name]
    torch.manual_seed(1)
    whole = run(layers(options, dtype)[0], *batches(sizes, dtype, side_of(name)))
    close = dict(rtol=2e-2, atol=2e-2) if dtype == torch.bfloat16 else dict(rtol=1e-4, atol=1e-5)
    for key in ('outputs', 'gradients', 'prediction'):
        if key == 'prediction' and name == 'untracked':
            continue  # from the batch at hand, as torch does it: each process has its own
        both = torch.cat([rank[name][key] for rank in found], dim=-4)
        assert both.dtype == dtype
        torch.testing.assert_close(both, whole[key], **close)
    assert found[0][name]['parameters'].keys() == whole['parameters'].keys()
    for key, value in whole['parameters'].items():
        torch.testing.assert_close(sum(rank[name]['parameters'][key] for rank in found), value, **close)
    assert found[0][name]['buffers'].keys() == whole['buffers'].keys()
    for key, value in whole['buffers'].items():
        torch.testing.assert_close(found[0][name]['buffers'][key], value, rtol=1e-4, atol=1e-5)
        assert found[0][name]['buffers'][key].equal(found[1][name]['buffers'][key])


def test_a_single_value_anywhere_is_refused_everywhere(found):
    assert all('more than one value per channel' in rank['single'] for rank in found)


def test_one_process_and_evaluation_are_batch_norm_to_the_last_bit():
    plain, synced = layers({}, torch.float32)
    values, weights = batches((4,), torch.float32, 4)
    expected, got = run(plain, values, weights), run(synced, values, weights)
    assert list(synced.state_dict()) == list(plain.state_dict())
    for key in ('outputs', 'gradients', 'prediction'):
        assert got[key].equal(expected[key])
    for group in ('buffers', 'parameters'):
        assert all(got[group][key].equal(value) for key, value in expected[group].items())
    with pytest.raises(ValueError, match='at least 2 dimensions'):
        synced(torch.zeros(3))


def test_layers_of_torch_are_changed_where_they_stand():
    _, of_host = build_norm_layer(dict(type='SyncBN'), 2)
    model = nn.Sequential(of_host, nn.Sequential(nn.SyncBatchNorm(3, eps=0.1), nn.BatchNorm2d(2)))
    model[1].eval()
    before, state = list(model.modules()), copy.deepcopy(model.state_dict())
    use_on_cpu(model)
    assert [type(module) for module in (model[0], *model[1])] == [CPUSyncBatchNorm, CPUSyncBatchNorm, nn.BatchNorm2d]
    assert all(one is other for one, other in zip(before, model.modules()))
    assert model[1][0].eps == 0.1 and model[0].training and not model[1][0].training
    assert all(value.equal(state[key]) for key, value in model.state_dict().items())


def test_layers_that_sync_bn_of_a_config_makes_are_changed_too():
    model = convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm1d(3)), 'torch')
    use_on_cpu(model)
    assert [type(layer) for layer in model] == [CPUSyncBatchNorm, CPUSyncBatchNorm]
    assert model[1](torch.randn(4, 3)).shape == (4, 3)


def test_configs_can_name_it():
    init_default_scope('mmseg')
    name, layer = build_norm_layer(dict(type='CPUSyncBN', requires_grad=False, eps=0.5), 4)
    assert name == 'bn' and type(layer) is CPUSyncBatchNorm and layer.eps == 0.5
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_the_host_turns_sync_bn_back_into_what_bn_is():
    """To the last bit, which configs with SyncBN rely on: MMEngine's Runner does so on one process."""
    plain, sync = nn.BatchNorm2d(CHANNELS), revert_sync_batchnorm(nn.SyncBatchNorm(CHANNELS))
    values, weights = batches((4,), torch.float32, 4)
    expected, got = run(plain, values, weights), run(sync, values, weights)
    assert all(got[key].equal(expected[key]) for key in ('outputs', 'gradients', 'prediction'))
    assert all(got['buffers'][key].equal(value) for key, value in expected['buffers'].items())
