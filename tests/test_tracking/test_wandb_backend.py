"""The W&B backend, with the real client."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import VISBACKENDS

from csrm_plugin.tracking import termination, wandb_backend, wandb_files
from csrm_plugin.utils import UserError

pytest.importorskip('wandb')

#: A config as the Runner gives it to the backend.
SETTINGS = dict(
    model=dict(type='CSRM', pseudo_label=dict(fg_threshold=0.35, crf=None)),
    custom_hooks=[dict(type='WarmupHook', iters=5)],
    train_dataloader=dict(dataset=dict(scale=(64, 48))),
)


def start(folder='run', resume=False, timestamp='20260101_000000', settings=None, **arguments):
    """A backend in the folder of one start of a training."""
    save_dir = os.path.join(folder, timestamp, 'vis_data')
    backend = VISBACKENDS.build(dict(type='WSSSWandbBackend', save_dir=save_dir, **arguments))
    backend.add_config(Config({**(settings or SETTINGS), 'work_dir': folder, 'resume': resume}))
    return backend


def train(backend, first, last, interval=10):
    """Log rows as MMEngine does: training every so many iterations."""
    for step in range(first, last + 1, interval):
        backend.add_scalars({'loss': 1 / step, 'iter': step}, step=step, file_path='x.json')


def note(folder='run'):
    with open(os.path.join(folder, wandb_files.RUN_FILE)) as file:
        return json.load(file)


def steps(run):
    """W&B's steps of a run; each row has the iteration as its step."""
    assert all(row['_step'] == row['iteration'] for row in run['rows'])
    return [row['_step'] for row in run['rows']]


def sync(*folders):
    """What `wandb sync` prints."""
    command = [sys.executable, '-m', 'wandb', 'sync', *folders]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_there_is_one_row_for_each_iteration(online, server):
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


def test_charts_have_the_iteration_as_x_axis(online, server):
    backend = start()
    train(backend, 10, 10)
    backend.close()
    (run,) = server.runs.values()
    metrics = run['config']['_wandb']['m']
    (everything,) = [metric for metric in metrics if metric.get('2') == '*']
    assert metrics[everything['5'] - 1]['1'] == 'iteration'


def test_what_is_no_number_is_left_out_and_said(online, server, logged):
    backend = start()
    for step in (1, 2):
        backend.add_scalars({'loss': 1.0, 'text': 'x', 'list': np.zeros(3), 'none': None, 'iter': step}, step=step)
    backend.close()
    (run,) = server.runs.values()
    assert [set(row) & {'text', 'list', 'none', 'loss'} for row in run['rows']] == [{'loss'}] * 2
    assert [sum(f'`{key}` is no number' in line for line in logged) for key in ('text', 'list', 'none')] == [1, 1, 1]


def test_config_is_flat(online, server):
    backend = start(settings={**SETTINGS, 'load_from': 'a/b.pth'})
    train(backend, 1, 1)
    backend.close()
    config = next(iter(server.runs.values()))['config']
    assert config['model.pseudo_label.fg_threshold'] == 0.35
    assert config['custom_hooks.0.iters'] == 5
    assert config['train_dataloader.dataset.scale'] == [64, 48]
    assert config['load_from'] == 'a/b.pth'
    assert not any(isinstance(value, dict) for key, value in config.items() if key != '_wandb')


def test_defaults_and_settings_of_the_run(online, server, monkeypatch):
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


def test_pictures_curves_and_summary(online, server):
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


def test_resume_goes_on_with_the_same_run(online, server, logged):
    backend = start()
    train(backend, 10, 50)
    backend.close()
    backend = start(resume=True, timestamp='20260101_000001')
    train(backend, 30, 80)
    backend.add_image('a', np.zeros((4, 4, 3), np.uint8), step=40)
    backend.close()
    ((run_id, run),) = server.runs.items()
    assert steps(run) == [10, 20, 30, 40, 50, 60, 70, 80]
    assert sum('holds the iterations up to 50' in line for line in logged) == 1
    assert (note()['id'], note()['step'], len(note()['parts'])) == (run_id, 80, 2)


def test_a_fresh_start_in_the_same_folder_is_another_run(online, server):
    for number in range(2):
        backend = start(timestamp=f'2026010{number}_000000')
        train(backend, 10, 20)
        backend.close()
    assert [steps(run) for run in server.runs.values()] == [[10, 20]] * 2
    assert note()['id'] == list(server.runs)[1]


def test_under_an_agent_the_id_is_the_agents(online, server, monkeypatch, capfd):
    monkeypatch.setenv('WANDB_RUN_ID', 'theirs')
    backend = start()
    train(backend, 10, 10)
    backend.close()
    assert list(server.runs) == ['theirs'] and note()['id'] == 'theirs'


def test_without_a_key_the_run_is_offline_and_can_be_sent_later(no_wandb, server, monkeypatch, logged, capfd):
    monkeypatch.setenv('WANDB_BASE_URL', server.url)
    monkeypatch.setenv('WANDB_MODE', 'online')
    monkeypatch.setenv('WANDB_DISABLE_CODE', 'true')
    for number, (first, last) in enumerate([(10, 50), (30, 80)]):
        backend = start(resume=bool(number), timestamp=f'2026010{number}_000000')
        train(backend, first, last)
        backend.add_image('sample', np.zeros((4, 4, 3), np.uint8), step=last)
        backend.close()
    lines = [line for line in logged if 'there is no key' in line]
    assert len(lines) == 2 and not server.asked
    folders = lines[1].split('`')[1].removeprefix('wandb sync ').split()
    assert lines[0].split('`')[1] == f'wandb sync {folders[0]}' and len(folders) == 2
    assert all(folder.startswith(os.path.join('run', '2026010')) for folder in folders)
    out, err = capfd.readouterr()
    assert 'wandb' not in (out + err).replace('W&B', '').replace('`wandb sync', '').replace('/wandb/', '')

    # A key turns up while the first parts are still here: what comes next must not overtake them.
    monkeypatch.setenv('WANDB_API_KEY', 'k' * 40)
    backend = start(resume=True, timestamp='20260109_000000')
    train(backend, 90, 90)
    backend.close()
    line = next(line for line in logged if 'not been sent yet' in line)
    folders = line.split('`')[1].removeprefix('wandb sync ').split()
    assert len(folders) == 3 and not server.runs

    sync(*folders)
    backend = start(resume=True, timestamp='20260110_000000')
    train(backend, 90, 100)
    backend.close()
    ((run_id, run),) = server.runs.items()
    assert run_id == note()['id']
    assert steps(run) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert run['config']['model.pseudo_label.fg_threshold'] == 0.35
    assert [name for _, name in server.files if name.endswith('.png')]


def test_a_server_that_refuses_the_key_costs_nothing_but_a_line(online, server, logged, capfd):
    server.reject = True
    backend = start()
    train(backend, 10, 20)
    backend.close()
    (line,) = [line for line in logged if 'W&B' in line]
    assert 'the server did not take it (this key is not known)' in line
    assert 'wandb:' not in ''.join(capfd.readouterr())
    server.reject = False
    sync(line.split('`')[1].split()[-1])
    (run,) = server.runs.values()
    assert steps(run) == [10, 20]


def test_nothing_begins_without_something_to_log(online, server):
    backend = start()
    backend.close()
    assert os.listdir() == [] and not server.asked


def test_disabled_means_that_nothing_is_imported_or_written(no_wandb, monkeypatch, logged):
    monkeypatch.setenv('WANDB_MODE', 'disabled')
    monkeypatch.setitem(sys.modules, 'wandb', None)  # importing it would fail, and that would be said
    backend = start()
    train(backend, 10, 20)
    backend.add_image('a', np.zeros((4, 4, 3), np.uint8), step=20)
    backend.add_summary({'a': 1})
    backend.close()
    assert backend.experiment is None
    assert os.listdir() == [] and logged == []


def test_without_wandb_there_is_one_line(no_wandb, monkeypatch, logged):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    backend = start()
    train(backend, 10, 20)
    backend.close()
    assert len(logged) == 1 and 'not installed' in logged[0]


def test_only_the_main_process_tracks(no_wandb, monkeypatch, logged):
    monkeypatch.setattr(wandb_backend, 'is_main_process', lambda: False)
    backend = start()
    train(backend, 10, 20)
    backend.close()
    assert os.listdir() == [] and logged == []


def test_trouble_costs_no_training(online, server, logged, monkeypatch):
    backend = start()
    train(backend, 10, 10)

    def fail(*args, **kwargs):
        raise RuntimeError('the service has gone\nand more')

    with monkeypatch.context() as broken:
        broken.setattr(type(backend._run), 'log', fail)
        train(backend, 20, 40)
    train(backend, 50, 50)
    backend.close()
    (run,) = server.runs.values()
    assert steps(run) == [10, 50]
    assert sum('a row was not kept: the service has gone; the training goes on' in line for line in logged) == 1


def test_what_comes_too_late_is_said(online, server, logged):
    backend = start()
    train(backend, 10, 20)
    for _ in range(2):
        backend.add_image('picture', np.zeros((4, 4, 3), np.uint8), step=5)
    backend.close()
    assert sum('`picture` came for iteration 5 after 20' in line for line in logged) == 1


def test_a_run_that_was_left_open_is_ended_as_failed(online, server):
    train(start('first'), 10, 20)
    second = start('second')
    train(second, 30, 30)
    second.close()
    assert [(run['name'], run['exit_code'], steps(run)) for run in server.runs.values()] == [
        ('first', 1, [10, 20]),
        ('second', 0, [30]),
    ]


def test_best_checkpoint_is_kept(online, server, logged):
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


def test_a_server_that_went_away_holds_nothing_up(online, server, logged, monkeypatch):
    backend = start(artifact='last')
    train(backend, 10, 10)
    backend.add_curve('curve', 'x', [1, 2], 'y', [3, 4], step=10)
    monkeypatch.setattr(wandb_backend, 'can_reach', lambda url: False)
    finish = backend._run.finish

    def late(**arguments):
        finish(**arguments)
        raise TimeoutError('Timed out finishing run.')

    monkeypatch.setattr(backend._run, 'finish', late)
    backend.close()
    assert not server.artifacts
    assert any('cannot be reached any more' in line for line in logged)
    line = next(line for line in logged if 'not everything was sent (Timed out finishing run)' in line)
    assert 'wandb sync --include-online run/20260101_000000/wandb/run-' in line


def test_code_is_the_projects_alone(online, server, root, monkeypatch):
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


def test_code_of_an_installed_package_is_the_package(tmp_path):
    for name in ('csrm_plugin/a.py', 'csrm_plugin/__pycache__/a.py', 'csrm_plugin/b.pth', 'tools/theirs.py'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('')
    assert wandb_files.code_files(tmp_path) == ['csrm_plugin/a.py']


def test_settings_that_do_not_exist_are_refused(no_wandb, monkeypatch):
    with pytest.raises(UserError, match='no `proj`; `project`'):
        start(init_kwargs=dict(proj='x'))
    with pytest.raises(UserError, match='must be None, best or last, but is `worst`'):
        start(artifact='worst')
    monkeypatch.setenv('WANDB_MODE', 'onlin')
    with pytest.raises(UserError, match='WANDB_MODE is `onlin`; give online'):
        start()


def test_a_broken_note_begins_a_new_run(no_wandb, logged):
    os.makedirs('run')
    with open('run/wandb_run.json', 'w') as file:
        file.write('{"id": ')
    backend = start(resume=True)
    train(backend, 10, 10)
    backend.close()
    assert note()['step'] == 10
    assert sum('is broken' in line for line in logged) == 1


@pytest.mark.parametrize(
    'names, ended, sent',
    [
        ({}, True, True),
        ({'run.wandb': 7}, False, True),  # killed before the first block was written
        ({'run.wandb': 99}, True, False),
        ({'run.wandb': 99, 'run.wandb.syncstate': 9}, True, False),  # `wandb sync` was tried
        ({'run.wandb': 99, 'run.wandb.syncstate': 9}, False, True),  # as far as it goes: killed, so never whole
        ({'run.wandb': 99, 'run.wandb.syncstate': 9, 'run.wandb.synced': 0}, True, True),
    ],
)
def test_which_parts_are_still_to_be_sent(tmp_path, names, ended, sent):
    (tmp_path / 'part').mkdir()
    for name, size in names.items():
        (tmp_path / 'part' / name).write_bytes(b'x' * size)
    parts = [
        {'folder': 'part', 'mode': 'offline', 'ended': ended},
        {'folder': 'other', 'mode': 'online', 'ended': True},
    ]
    left = wandb_files.RunNote('id', 3, parts).not_sent(str(tmp_path))
    assert left == ([] if sent else [str(tmp_path / 'part')])


#: One process for each way to end, forked from one that has imported what takes long.
SCRIPT = """
import json, os, signal, sys, time
from mmengine.config import Config
from csrm_plugin.tracking import WSSSWandbBackend

def child(name):
    backend = WSSSWandbBackend(f'{name}/time/vis_data')
    backend.add_config(Config(dict(work_dir=name)))
    for step in (1, 2, 3):
        backend.add_scalars(dict(loss=1.0, iter=step), step=step)
    if name == 'exit':
        sys.exit(1)
    if name == 'error':
        raise RuntimeError('the loss is NaN')
    open('ready', 'w').close()
    time.sleep(60)

children = {}
for name in ('exit', 'error', 'term'):
    children[name] = os.fork()
    if children[name] == 0:
        child(name)
while not os.path.exists('ready'):
    time.sleep(0.05)
os.kill(children['term'], signal.SIGTERM)
codes = {name: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for name, pid in children.items()}
with open('codes.json', 'w') as file:
    json.dump(codes, file)
"""


def test_crash_and_sigterm_mark_the_run_as_failed(online, server, root, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(root))
    result = subprocess.run([sys.executable, '-c', SCRIPT], capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    codes = json.loads((online / 'codes.json').read_text())
    assert codes == {'exit': 1, 'error': 1, 'term': 128 + signal.SIGTERM}
    states = {run['name']: (run['exit_code'], steps(run)) for run in server.runs.values()}
    assert states == {name: (code, [1, 2, 3]) for name, code in codes.items()}


def test_sigterm_of_a_fork_or_with_a_handler_is_left_alone():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    restore = termination.exit_on_sigterm()
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    with pytest.raises(SystemExit) as end:
        os.kill(os.getpid(), signal.SIGTERM)
    assert end.value.code == 143
    restore()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    own = signal.signal(signal.SIGTERM, lambda *_: None)
    handler = signal.getsignal(signal.SIGTERM)
    termination.exit_on_sigterm()()
    assert signal.getsignal(signal.SIGTERM) is handler
    signal.signal(signal.SIGTERM, own)
