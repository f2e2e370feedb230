"""How the commands of a stage are shared out to GPUs: what runs, with which devices, and what comes together again."""

import io
import json
import time
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from csrm_plugin.engine.testing import prepare_testing, run_test
from csrm_plugin.experiments.pipeline import commands
from csrm_plugin.experiments.pipeline.commands import check_gpus, merged, run_command, shared_out, tool_of
from csrm_plugin.experiments.pipeline.stages.base import cfg_options
from csrm_plugin.utils import UserError

#: A tool that says what it was given, and fails or waits as the environment says.
TOOL = """
import json, os, sys, time
arguments, end = sys.argv[1:], time.monotonic() + 60
def wait(name):
    while not os.path.exists(name):
        time.sleep(0.02)
        if time.monotonic() > end:
            sys.exit('error: the other shard does not run')
shard = arguments[arguments.index('--shard') + 1]
if os.environ.get('TOY_FAIL') == shard:
    wait('waiting')
    sys.exit('error: the toy is broken')
if os.environ.get('TOY_FAIL'):
    open('waiting', 'w').close()
    time.sleep(600)
open('here' + shard[0], 'w').close()
wait('here' + '10'[int(shard[0])])  # the other one runs at the same time
with open(arguments[arguments.index('--json') + 1], 'w') as file:
    json.dump(dict(made=2, pictures=2, seconds=2.0 + int(shard[0]), images_per_second=1.0, tiled=[shard], split='val',
                   seen=[os.environ.get('CUDA_VISIBLE_DEVICES')], threads=[os.environ.get('OMP_NUM_THREADS')]), file)
"""
COMMAND = ['tools/pseudo_labels.py', 'c.py', 'w.pth', '--json', 'made.json', '--cfg-options', 'a=1']


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'pseudo_labels.py').write_text(TOOL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    return SimpleNamespace(
        root=str(tmp_path), folder=str(tmp_path), gpus=2, folder_of=lambda name: name, config_path=lambda path: path
    )


def call(run):
    out = io.StringIO()
    parts, peak = run_command(COMMAND, run, 'labels', 1, 3, Console(file=out, width=200))
    return parts, peak, out.getvalue()


@pytest.mark.parametrize('visible, seen', [('5,3,7', ['5', '3']), ('', [None, None])])
def test_shards_run_at_the_same_time_on_gpus_of_their_own(run, monkeypatch, visible, seen):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    monkeypatch.setattr(commands, 'available_cores', lambda: 8)
    parts, peak, text = call(run)
    assert [part[-2:] for part in parts] == [['--shard', '0/2'], ['--shard', '1/2']]
    with open('made.json') as file:
        made = json.load(file)
    # On a machine without GPUs nothing is said about devices.
    assert made['seen'] == [device or visible for device in seen] and made['threads'] == ['4', '4']
    assert (made['made'], made['pictures'], made['seconds'], made['tiled']) == (4, 4, 3.0, ['0/2', '1/2'])
    assert made['images_per_second'] == round(4 / 3, 3) and made['split'] == 'val'
    assert peak > 1 and '1/3 pseudo_labels in 2 shards' in text


def test_a_shard_that_fails_ends_the_others_and_is_named(run, monkeypatch):
    monkeypatch.setenv('TOY_FAIL', '1/2')
    begin = time.monotonic()
    with pytest.raises(
        UserError, match=r'stage labels failed at pseudo_labels, shard 1/2: the toy is broken; its log is .*1of2\.log'
    ):
        call(run)
    assert time.monotonic() - begin < 60  # the other one would wait for ten minutes


def test_what_one_process_does_stays_one_command():
    assert shared_out(COMMAND, 1) == [COMMAND]
    scores = ['tools/evaluate_labels.py', 'labels', 'masks']
    assert shared_out(scores, 4) == [scores] and tool_of(scores) == 'evaluate_labels'


def test_trainings_and_tests_are_one_run_of_several_processes():
    for tool in ('train', 'test'):
        (found,) = shared_out([f'tools/{tool}.py', 'c.py', '--cfg-options', 'a=1'], 4)
        assert found[:4] == ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=4']
        assert found[4:] == [f'tools/{tool}.py', 'c.py', '--cfg-options', 'a=1', '--launcher', 'pytorch']


@pytest.mark.skipif(torch.cuda.is_available(), reason='about processes on CPUs')
def test_a_test_by_two_processes_scores_like_one(root, tmp_path, demo_options, checkpoint_of):
    config, checkpoint = str(root / 'mmcfg' / 'csrm_demo.py'), checkpoint_of('csrm_demo')
    # Three pictures: the host's sampler gives the second process one again, which must not count.
    run_test(prepare_testing(config, checkpoint, demo_options, str(tmp_path / 'one')), json_path=tmp_path / 'one.json')
    words = {
        key: ','.join(map(str, value)) if isinstance(value, tuple) else value for key, value in demo_options.items()
    }
    command = ['tools/test.py', config, checkpoint, '--work-dir', str(tmp_path / 'two')]
    command += ['--json', str(tmp_path / 'two.json')]
    run = SimpleNamespace(
        root=str(root), gpus=2, folder_of=lambda name: str(tmp_path / name), config_path=lambda path: path
    )
    run_command([*command, *cfg_options(words)], run, 'csrm', 1, 1, Console(file=io.StringIO()))
    one, two = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('one', 'two'))
    assert one == two
    assert one['context']['pictures'] == 3 and {'seg/mIoU', 'cam/mIoU', 'pseudo/mIoU', 'cls/mAP'} <= set(one)


def test_shards_share_the_cores_where_the_tool_starts_processes():
    first, second = shared_out(COMMAND, 2, cores=12)
    assert first[-4:] == ['--workers', '5', '--shard', '0/2'] and second[-1] == '1/2'
    assert 'made_0of2.json' in first and 'made_1of2.json' in second and 'made.json' not in first + second
    merging = ['tools/refine_sam.py', 'labels', 'masks']
    assert shared_out(merging, 2, cores=2)[0][-4:-2] == ['--workers', '1']
    assert shared_out(merging, 2, cores=64)[0][-4:-2] == ['--workers', '8']
    sam = ['tools/sam_masks.py', 'sam/vit-huge', 'pictures']  # predicts in its own process
    assert shared_out(sam, 2, cores=64)[0] == [*sam, '--shard', '0/2']
    superpixels = ['tools/sam_masks.py', 'superpixels', 'pictures', '--workers', '3']
    assert shared_out(superpixels, 2, cores=64)[0] == [*superpixels, '--shard', '0/2']


def test_reports_of_shards_come_together():
    shards = [dict(made=0, seconds=0.0, images_per_second=0.0, tiled=[]) for _ in range(2)]
    assert merged(shards) == dict(made=0, seconds=0.0, images_per_second=None, tiled=[])


def test_no_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    check_gpus(2)
    with pytest.raises(UserError, match='--gpus 3, but only 2 can be used here: 3, 5'):
        check_gpus(3)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    check_gpus(3)
