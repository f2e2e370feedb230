"""A run of CSRM in two processes on CPUs: they stay alike, draw for themselves, and its validation holds afterwards."""

import json
import multiprocessing
import os
import socket

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from csrm_plugin import functional as F
from csrm_plugin.engine.testing import prepare_testing, run_test
from csrm_plugin.engine.training import prepare_training

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')

#: Pictures of the demo, few and small: width and height in pixels.
DATA = dict(image_size=(48, 40), num_train=8, num_val=5)


class Witness(Hook):
    """Keeps what a process starts from, draws, reads and scores."""

    def __init__(self):
        self.found = dict(masks=[], dropped=[], pictures=[])

    def before_train(self, runner):
        network = getattr(runner.model, 'module', runner.model)
        self.found['start'] = {name: value.clone() for name, value in network.state_dict().items()}
        dropout = network.student.decode_head.dropout
        dropout.register_forward_hook(lambda _, inputs, output: self.found['dropped'].append(output == 0))
        self.class_mix, F.class_mix = F.class_mix, self.mix

    def mix(self, *args, **kwargs):
        self.found['masks'].append(self.class_mix(*args, **kwargs))
        return self.found['masks'][-1]

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.found['pictures'].append([sample.img_path for sample in data_batch['data_samples']])

    def after_train(self, runner):
        F.class_mix = self.class_mix
        network = getattr(runner.model, 'module', runner.model)
        self.found['end'] = network.state_dict()

    def after_val_epoch(self, runner, metrics=None):
        self.found['metrics'] = dict(metrics)


def options_of(demo_root):
    options = {
        'train_dataloader.batch_size': 2,
        'train_cfg.max_epochs': 2,
        'train_cfg.val_interval': 2,
        'model.pseudo_label.crf': None,
        'model.mix_prob': 1.0,
        'custom_hooks.0.iters': 1,
        'custom_hooks.0.ramp_iters': 0,
    }
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options |= {f'{loader}.num_workers': 0, f'{loader}.persistent_workers': False}
        options |= {f'{loader}.dataset.{key}': value for key, value in DATA.items()}
        options |= {f'{loader}.dataset.data_root': str(demo_root), f'{loader}.dataset.pipeline.1.scale': (48, 40)}
    return options


def train(config, options, folder, launcher):
    witness = Witness()
    runner = Runner.from_cfg(prepare_training(config, options, work_dir=str(folder / 'run'), launcher=launcher))
    runner.register_hook(witness, priority='LOWEST')
    runner.train()
    return witness.found


def _process(rank, port, config, options, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    torch.set_num_threads(1)
    torch.save(train(config, options, folder, 'pytorch'), folder / f'{rank}.pt')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def run(tmp_path_factory, request):
    """Config, options, folder, and what each of two processes found."""
    folder = tmp_path_factory.mktemp('two_processes')
    config = str(request.config.rootpath / 'mmcfg' / 'csrm_demo.py')
    options = options_of(folder / 'data')
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = str(listener.getsockname()[1])
    context = multiprocessing.get_context('fork')
    arguments = [(rank, port, config, options, folder) for rank in range(2)]
    processes = [context.Process(target=_process, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return config, options, folder, [torch.load(folder / f'{rank}.pt') for rank in range(2)]


@pytest.mark.parametrize('when', ['start', 'end'])
def test_students_and_teachers_are_equal(run, when):
    first, second = (found[when] for found in run[3])
    assert any(name.startswith('teacher') for name in first) and any('running_var' in name for name in first)
    assert all(value.equal(second[name]) for name, value in first.items())


def test_they_have_learnt(run):
    start, end = run[3][0]['start'], run[3][0]['end']
    assert not any(end[name].equal(value) for name, value in start.items() if name.endswith('running_mean'))


def test_each_reads_its_share_and_draws_for_itself(run):
    first, second = run[3]
    assert len(first['pictures']) == len(second['pictures']) == 4
    for epoch in (slice(0, 2), slice(2, 4)):
        read = [path for found in (first, second) for batch in found['pictures'][epoch] for path in batch]
        assert len(read) == len(set(read)) == DATA['num_train'], 'samplers shuffle alike, and share'
    assert len(first['masks']) == len(second['masks']) > 0
    assert any(not one.equal(other) for one, other in zip(first['masks'], second['masks']))
    # Shapes are equal, and so is the share of what is dropped, but not the places.
    assert len(first['dropped']) == len(second['dropped']) > 0
    channels = [found['dropped'][0].flatten(2).all(dim=2) for found in run[3]]
    assert not channels[0].equal(channels[1])


def test_a_test_finds_the_validation_s_scores(run):
    config, options, folder, found = run
    assert json.loads((folder / 'run' / 'record' / 'run.json').read_text())['status'] == 'finished'
    kept = {key: value for key, value in options.items() if key.startswith(('test_dataloader', 'model'))}
    cfg = prepare_testing(config, str(folder / 'run' / 'epoch_2.pth'), kept, work_dir=str(folder / 'test'))
    metrics = run_test(cfg)
    assert metrics == {name: found[0]['metrics'][name] for name in metrics} and 'seg/mIoU' in metrics
