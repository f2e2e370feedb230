"""The W&B backend, with the real client."""

import json
import math
import os
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from csrm_plugin.tracking import wandb_backend, wandb_files
from csrm_plugin.utils import UserError

pytest.importorskip('wandb')


#: A config as the Runner gives it to the backend.
SETTINGS = dict(
    model=dict(type='CSRM', pseudo_label=dict(fg_threshold=0.35, crf=None)),
    custom_hooks=[dict(type='WarmupHook', iters=5)],
    train_dataloader=dict(dataset=dict(scale=(64, 48))),
)


def test_there_is_one_row_for_each_iteration(online, server, start, steps):
    backend = start()
    backend.add_scalars({'loss': 0.5, 'time': 0.25, 'data_time': 0.1, 'iter': 10, 'epoch': 1}, step=10)
    backend.add_scalars({'seg/mIoU': torch.tensor([42.0]), 'time': 0.75, 'data_time': 0.2}, step=10)
    backend.add_scalar('extra', np.float32(0.5), step=10)
    backend.add_scalars({'loss': float('nan'), 'iter': 20}, step=20)
    backend.close()
    (run,) = server.runs.values()
    assert steps(run) == [10, 20]
    row = {key: value for key, value in run['rows'][0].items() if not key.startswith('_')}
    assert row == {
        'loss': 0.5,
        'time': 0.25,
        'data_time': 0.1,
        'iter': 10,
        'epoch': 1,
        'iteration': 10,
        'seg/mIoU': 42,
        'val/time': 0.75,
        'val/data_time': 0.2,
        'extra': 0.5,
    }
    assert math.isnan(run['rows'][1]['loss'])
    assert run['exit_code'] == 0
    assert run['summary']['seg/mIoU'] == 42


def test_charts_have_the_iteration_as_x_axis(online, server, start, train):
    backend = start()
    train(backend, 10, 10)
    backend.close()
    (run,) = server.runs.values()
    metrics = run['config']['_wandb']['m']
    (everything,) = [metric for metric in metrics if metric.get('2') == '*']
    assert metrics[everything['5'] - 1]['1'] == 'iteration'


def test_what_is_no_number_is_left_out_and_said(online, server, logged, start):
    backend = start()
    for step in (1, 2):
        backend.add_scalars({'loss': 1.0, 'text': 'x', 'list': np.zeros(3), 'none': None, 'iter': step}, step=step)
    backend.close()
    (run,) = server.runs.values()
    assert [set(row) & {'text', 'list', 'none', 'loss'} for row in run['rows']] == [{'loss'}] * 2
    assert [sum(f'`{key}` is no number' in line for line in logged) for key in ('text', 'list', 'none')] == [1, 1, 1]


def test_config_is_flat(online, server, start, train):
    backend = start(settings={**SETTINGS, 'load_from': 'a/b.pth'})
    train(backend, 1, 1)
    backend.close()
    config = next(iter(server.runs.values()))['config']
    assert config['model.pseudo_label.fg_threshold'] == 0.35
    assert config['custom_hooks.0.iters'] == 5
    assert config['train_dataloader.dataset.scale'] == [64, 48]
    assert config['load_from'] == 'a/b.pth'
    assert not any(isinstance(value, dict) for key, value in config.items() if key != '_wandb')


def test_defaults_and_settings_of_the_run(online, server, monkeypatch, start, train):
    for environment, given, expected in (
        ({}, {}, ('run', 'train', 'csrm', None, None)),
        (
            {'WANDB_PROJECT': 'theirs', 'WANDB_RUN_GROUP': 'g', 'WANDB_TAGS': 'a,b', 'WANDB_JOB_TYPE': 'j'},
            {'name': 'n', 'group': None, 'tags': None},
            ('n', 'j', 'theirs', 'g', ['a', 'b']),
        ),
        ({'WANDB_NAME': 'e'}, {'tags': 'one', 'group': 'mine'}, ('e', 'train', 'theirs', 'mine', ['one'])),
    ):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server.runs.clear()
        backend = start(init_kwargs=given)
        train(backend, 1, 1)
        backend.close()
        sys.modules['wandb'].teardown()
        (run,) = server.runs.values()
        got = (run['name'], run['job_type'], run['project']['name'], run['group'], run['tags'])
        assert got == expected
        for name in ('WANDB_TAGS', 'WANDB_JOB_TYPE'):
            monkeypatch.delenv(name, raising=False)


def test_pictures_curves_and_summary(online, server, start, train, steps):
    picture, mask = np.full((8, 6, 3), 90, np.uint8), np.zeros((8, 6), np.int64)
    mask[0, 0] = 255
    backend = start()
    train(backend, 10, 10)
    backend.add_image('sample_a', picture, step=10)
    backend.add_segmentation('masks/a', picture, {'pseudo label': mask}, ['background', 'dog'], step=10)
    backend.add_curve('curve', 'threshold', [0.1, 0.2], 'mIoU', [30.0, float('nan')], step=10)
    backend.add_summary({'best/seg/mIoU': np.float64(50.0), 'note': 'text', 'nothing': None})
    backend.close()
    ((run_id, run),) = server.runs.items()
    assert steps(run) == [10]
    (row,) = run['rows']
    for key in ('sample_a', 'masks/a', 'curve'):
        assert server.files[run_id, row[key]['path']].startswith(b'\x89PNG')
    assert row['sample_a']['height'] == 8
    labels = run['config']['_wandb']['mask/class_labels']
    assert labels['masks/a_wandb_delimeter_pseudo_label']['value'] == {
        '0': 'background',
        '1': 'dog',
        '255': 'uncertain',
    }
    assert (run_id, row['masks/a']['masks']['pseudo_label']['path']) in server.files
    (table,) = [item for item in server.artifacts.values() if item['type'] == 'run_table']
    content = json.loads(next(iter(table['files'].values())))
    assert content['columns'] == ['threshold', 'mIoU'] and content['data'][0] == [0.1, 30.0]
    assert (run['summary']['best/seg/mIoU'], run['summary']['note']) == (50, 'text')


def test_nothing_begins_without_something_to_log(online, server, start):
    backend = start()
    backend.close()
    assert os.listdir() == [] and not server.asked


def test_disabled_means_that_nothing_is_imported_or_written(no_wandb, monkeypatch, logged, start, train):
    monkeypatch.setenv('WANDB_MODE', 'disabled')
    monkeypatch.setitem(sys.modules, 'wandb', None)  # importing it would fail, and that would be said
    backend = start()
    train(backend, 10, 20)
    backend.add_image('a', np.zeros((4, 4, 3), np.uint8), step=20)
    backend.add_summary({'a': 1})
    backend.close()
    assert backend.experiment is None
    assert os.listdir() == [] and logged == []


def test_without_wandb_there_is_one_line(no_wandb, monkeypatch, logged, start, train):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    backend = start()
    train(backend, 10, 20)
    backend.close()
    assert len(logged) == 1 and 'not installed' in logged[0]


def test_only_the_main_process_tracks(no_wandb, monkeypatch, logged, start, train):
    monkeypatch.setattr(wandb_backend, 'is_main_process', lambda: False)
    backend = start()
    train(backend, 10, 20)
    backend.close()
    assert os.listdir() == [] and logged == []


def test_trouble_costs_no_training(online, server, logged, monkeypatch, start, train, steps):
    backend = start()
    train(backend, 10, 10)

    def fail(*args, **kwargs):
        raise RuntimeError('the service has gone\nand more')

    with monkeypatch.context() as broken:
        broken.setattr(type(backend._run.run), 'log', fail)
        train(backend, 20, 40)
    train(backend, 50, 50)
    backend.close()
    (run,) = server.runs.values()
    assert steps(run) == [10, 50]
    assert sum('a row was not kept: the service has gone; the training goes on' in line for line in logged) == 1


def test_what_comes_too_late_is_said(online, server, logged, start, train):
    backend = start()
    train(backend, 10, 20)
    for _ in range(2):
        backend.add_image('picture', np.zeros((4, 4, 3), np.uint8), step=5)
    backend.close()
    assert sum('`picture` came for iteration 5 after 20' in line for line in logged) == 1


def test_best_checkpoint_is_kept(online, server, logged, start, train):
    with pytest.raises(UserError, match='artifact=best needs default_hooks'):
        start(artifact='best')
    checkpoint = online / 'best_seg_mIoU_epoch_3.pth'
    checkpoint.write_bytes(b'weights')
    hub = MessageHub.get_instance('keeps_the_best')
    hub.update_info('best_ckpt', str(checkpoint))
    settings = {**SETTINGS, 'default_hooks': dict(checkpoint=dict(save_best='seg/mIoU'))}
    backend = start(artifact='best', settings=settings)
    train(backend, 10, 10)
    backend.close()
    (artifact,) = server.artifacts.values()
    assert (artifact['name'], artifact['type'], sorted(artifact['aliases'])) == (
        'run-best',
        'model',
        ['best', 'latest'],
    )
    assert artifact['files'] == {checkpoint.name: b'weights'} and artifact['committed']
    assert not [line for line in logged if 'not kept' in line]


def test_code_is_the_projects_alone(online, server, root, monkeypatch, start, train):
    (online / 'private.py').write_text('secret = 1\n')
    monkeypatch.setenv('WANDB_DISABLE_CODE', 'false')
    backend = start()
    train(backend, 10, 10)
    backend.close()
    (artifact,) = server.artifacts.values()
    assert artifact['type'] == 'code' and artifact['committed']
    names = set(artifact['files'])
    assert names == set(wandb_files.code_files(root))
    assert {
        'csrm_plugin/tracking/wandb_backend.py',
        'mmcfg/csrm_voc.py',
        'sweeps/alpha.yaml',
        'tools/train.py',
    } <= names
    assert {name.split('/')[0] for name in names} == {'csrm_plugin', 'tools', 'mmcfg', 'sweeps'}
    assert artifact['files']['tools/train.py'] == (root / 'tools' / 'train.py').read_bytes()


def test_settings_that_do_not_exist_are_refused(no_wandb, monkeypatch, start):
    with pytest.raises(UserError, match='no `proj`; `project`'):
        start(init_kwargs=dict(proj='x'))
    with pytest.raises(UserError, match='must be None, best or last, but is `worst`'):
        start(artifact='worst')
    monkeypatch.setenv('WANDB_MODE', 'onlin')
    with pytest.raises(UserError, match='WANDB_MODE is `onlin`; give online'):
        start()
