"""One config with several seeds. The tools are stand-ins that take a moment."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from rich.console import Console

from csrm_plugin.experiments.pipeline.runner import only_one
from csrm_plugin.experiments.repetition import markdown, repeat, summarise
from csrm_plugin.utils import UserError

TRAIN = """
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
seed = int(sys.argv[-1].removeprefix('randomness.seed='))
with open('trained.txt', 'a') as file:
    print(seed, *sys.argv[1:], file=file)
if seed == 13:
    print('error: the loss is not finite', file=sys.stderr)
    sys.exit(1)
with zipfile.ZipFile(work / 'epoch_2.pth', 'w') as file:
    file.writestr('weights', str(seed))
"""
TEST = """
import json, pathlib, sys, zipfile
seed = int(zipfile.ZipFile(sys.argv[2]).read('weights'))
split = sys.argv[-1].rsplit('/', 1)[-1].removesuffix('.txt')
with open('tested.txt', 'a') as file:
    print(sys.argv[-1], file=file)
target = pathlib.Path(sys.argv[sys.argv.index('--json') + 1])
context = dict(scales=[1.0], flip=False, crf=False, weights='teacher', cam_threshold_chosen_with_masks=True)
target.write_text(json.dumps({'seg/mIoU': 50.0 + seed * (2 if split == 'train' else 1), 'context': context}))
"""
CONFIG = """
model = dict(type='CAMClassifier', backbone=dict(type='ResNet', depth=18))
randomness = dict(seed=0)
test_dataloader = dict(dataset=dict(ann_file='ImageSets/Segmentation/val.txt'))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a config and stand-ins for the tools."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(textwrap.dedent(TRAIN))
    (tmp_path / 'tools' / 'test.py').write_text(textwrap.dedent(TEST))
    (tmp_path / 'toy.py').write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(project, seeds, **kwargs):
    with open(os.devnull, 'w') as sink:
        return repeat('toy.py', seeds, str(project), Console(file=sink), **kwargs)


def trained(project):
    return [int(line.split()[0]) for line in (project / 'trained.txt').read_text().splitlines()]


def test_mean_and_standard_deviation_by_hand():
    scores = {
        seed: {'val': {'seg/mIoU': value, 'cls/mAP': None if seed else 1.0}} for seed, value in enumerate((1, 2, 6))
    }
    entry = summarise(scores)['val']
    assert entry['seg/mIoU']['mean'] == 3
    assert entry['seg/mIoU']['std'] == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert entry['cls/mAP'] == dict(mean=None, std=None, values=[1.0, None, None])  # not every seed has it
    assert summarise({5: {'val': {'seg/mIoU': 7.0}}})['val']['seg/mIoU']['std'] is None


def test_each_seed_is_trained_and_scored_on_each_split(project):
    result = call(project, [0, 2, 4], splits=['train', 'val'], jobs=2)
    assert sorted(trained(project)) == [0, 2, 4]
    assert result['splits']['train']['seg/mIoU']['values'] == [50, 54, 58]
    assert result['splits']['val']['seg/mIoU'] == {'mean': 52, 'std': 2, 'values': [50, 52, 54]}
    assert json.loads((project / 'work_dirs/repeat_toy/repeat.json').read_text())['seeds'] == [0, 2, 4]
    text = (project / 'work_dirs/repeat_toy/repeat.md').read_text()
    assert text == markdown(result)
    assert '| seg/mIoU | val | 52.00 ± 2.00 | 50.00 | 52.00 | 54.00 |' in text
    assert text.startswith('`toy.py`, percent')
    assert 'val: scale 1, no flip, no CRF' in text
    assert 'with n - 1' in text


def test_options_reach_the_tools(project):
    call(project, [1], cfg_options=['model.backbone.depth=50'])
    line = (project / 'trained.txt').read_text()
    assert '--cfg-options model.backbone.depth=50 randomness.seed=1' in line


def test_finished_seeds_are_skipped_and_new_ones_added(project):
    call(project, [0, 1])
    result = call(project, [1, 2])
    assert trained(project) == [0, 1, 2]
    assert result['splits']['val']['seg/mIoU']['values'] == [51, 52]


def test_only_the_splits_that_have_no_score_are_scored(project):
    call(project, [0], splits=['val'])
    result = call(project, [0], splits=['val', 'train'])
    assert trained(project) == [0]
    assert [result['splits'][split]['seg/mIoU']['mean'] for split in ('val', 'train')] == [50, 50]


def test_the_list_of_another_split_lies_beside_that_of_the_config(project):
    (project / 'toy.py').write_text(CONFIG.replace('ImageSets/Segmentation/val.txt', 'lists/mine.txt'))
    result = call(project, [0])
    assert list(result['splits']) == ['mine']
    assert 'ann_file=lists/mine.txt' in (project / 'tested.txt').read_text()
    call(project, [0], splits=['other'])
    assert 'ann_file=lists/other.txt' in (project / 'tested.txt').read_text()


def seed_file(project, seed=0):
    path = project / f'work_dirs/repeat_toy/seed_{seed}/seed.json'
    return path, json.loads(path.read_text())


def test_an_interrupted_seed_starts_anew(project):
    call(project, [0])
    path, content = seed_file(project)
    path.write_text(json.dumps({**content, 'trained': False}))
    (path.parent / 'half.pth').touch()
    call(project, [0, 1])
    assert trained(project) == [0, 0, 1]
    assert not (path.parent / 'half.pth').exists()


def test_a_folder_of_something_else_is_left_alone(project):
    folder = project / 'work_dirs/repeat_toy/seed_1'
    folder.mkdir(parents=True)
    (folder / 'epoch_90.pth').touch()
    with pytest.raises(UserError, match=r'seed_1` was not made by tools/repeat\.py'):
        call(project, [0, 1])
    assert (folder / 'epoch_90.pth').exists()
    assert not (project / 'trained.txt').exists()


def test_another_code_trains_anew_and_other_settings_are_refused(project):
    call(project, [0])
    path, content = seed_file(project)
    content['key']['code'] = 'older'
    path.write_text(json.dumps(content))
    call(project, [0])
    assert trained(project) == [0, 0]
    assert not os.path.exists(f'{path.parent}.old')
    with pytest.raises(UserError, match='other settings; give another --work-dir'):
        call(project, [0], cfg_options=['model.backbone.depth=50'])


def test_what_was_finished_stays_until_its_successor_is(project):
    call(project, [0])
    path, content = seed_file(project)
    content['key']['code'] = 'older'
    path.write_text(json.dumps(content))
    (project / 'tools' / 'train.py').write_text('raise SystemExit(1)')
    with pytest.raises(UserError, match='seed 0 failed at train'):
        call(project, [0])
    assert os.path.exists(f'{path.parent}.old/epoch_2.pth')


def test_another_starting_checkpoint_or_other_label_maps_train_anew(project):
    start, labels = project / 'cam.pth', project / 'labels'
    start.write_text('one')
    labels.mkdir()
    options = ['load_from=cam.pth', 'test_dataloader.dataset.pseudo_label_dir=labels']
    (project / 'toy.py').write_text(
        CONFIG.replace("val.txt'", "val.txt', pseudo_label_dir=None").replace(
            'randomness', 'load_from = None\nrandomness'
        )
    )
    call(project, [0], cfg_options=options)
    call(project, [0], cfg_options=options)
    assert trained(project) == [0]
    start.write_text('two')
    call(project, [0], cfg_options=options)
    (labels / 'a.png').write_text('x')
    call(project, [0], cfg_options=options)
    assert trained(project) == [0, 0, 0]


def test_a_failing_seed_names_itself_loses_nothing_and_starts_no_other(project):
    with pytest.raises(UserError, match=r'seed 13 failed at train: the loss is not finite; its log is .*train\.log'):
        call(project, [0, 13, 1])
    assert trained(project) == [0, 13]
    call(project, [0, 1])
    assert trained(project) == [0, 13, 1]


def test_an_interrupt_ends_what_runs_and_starts_nothing(project, root):
    (project / 'tools' / 'train.py').write_text(
        TRAIN.replace('if seed == 13', 'import time; time.sleep(60)\nif seed == 13')
    )
    code = (
        'import os; from rich.console import Console; from csrm_plugin.experiments.repetition import repeat; '
        'repeat("toy.py", [0, 1, 2], ".", Console())'
    )
    environment = {**os.environ, 'PYTHONPATH': str(root)}
    process = subprocess.Popen([sys.executable, '-c', code], env=environment, stderr=subprocess.DEVNULL)
    while not (project / 'trained.txt').exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert trained(project) == [0]


def test_two_at_once_in_one_folder_are_refused(project):
    os.makedirs('work_dirs/repeat_toy')
    with only_one('work_dirs/repeat_toy'), pytest.raises(UserError, match='another process is at work'):
        call(project, [0])


@pytest.mark.parametrize(
    ('seeds', 'kwargs', 'message'),
    [
        ([1, 1], {}, '--seeds must be different'),
        ([-1], {}, '--seeds'),
        ([0], dict(jobs=0), '--jobs'),
        ([0], dict(cfg_options=['randomness.seed=3']), 'those of --seeds'),
        ([0], dict(cfg_options=['nothing']), 'KEY=VALUE'),
        ([0], dict(cfg_options=['model.bakbone.depth=50']), 'model.backbone'),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_anything_runs(project, seeds, kwargs, message):
    with pytest.raises(UserError, match=message):
        call(project, seeds, **kwargs)
    assert not (project / 'trained.txt').exists()
