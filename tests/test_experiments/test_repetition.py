"""One config with several seeds. The tools are stand-ins that take a moment."""

import json
import os
import signal
import textwrap
import threading
import time

import pytest
from rich.console import Console

from csrm_plugin.experiments import repetition
from csrm_plugin.experiments.pipeline.folders import only_one
from csrm_plugin.experiments.repetition import repeat
from csrm_plugin.experiments.seed_summary import markdown
from csrm_plugin.utils import UserError

TRAIN = """
import json, os, pathlib, sys, zipfile
work = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
seed = int(sys.argv[-1].removeprefix('randomness.seed='))
with open('trained.txt', 'a') as file:
    print(seed, *sys.argv[1:], file=file)
devices, threads = (os.environ.get(name) for name in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS'))
(work / 'started.json').write_text(json.dumps(dict(pid=os.getpid(), devices=devices, threads=threads)))
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
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    return tmp_path


def wait_for(condition, seconds=120):
    """Wait until something is to be seen; the limit is only for a test that fails anyway."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def call(project, seeds, **kwargs):
    with open(os.devnull, 'w') as sink:
        return repeat('toy.py', seeds, str(project), Console(file=sink), **kwargs)


def trained(project):
    return [int(line.split()[0]) for line in (project / 'trained.txt').read_text().splitlines()]


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


def interrupted(project, **key):
    """Make seed 0 look as if its training had been stopped after a checkpoint, with other parts of its key."""
    call(project, [0])
    path, content = seed_file(project)
    path.write_text(json.dumps({**content, 'trained': False, 'scores': {}, 'key': {**content['key'], **key}}))
    (path.parent / 'epoch_1.pth').write_text('a day of work')
    return path.parent


def set_aside(folder):
    return [path for path in folder.parent.iterdir() if path.name.startswith(f'{folder.name}.set_aside_')]


def test_an_interrupted_seed_is_resumed(project):
    folder = interrupted(project)
    (folder / 'train.log').write_text('the first part')
    result = call(project, [0, 1])
    assert trained(project) == [0, 0, 1]
    starts = (project / 'trained.txt').read_text().splitlines()
    assert ['--resume' in line for line in starts] == [False, True, False]
    assert (folder / 'epoch_1.pth').read_text() == 'a day of work' and set_aside(folder) == []
    assert (folder / 'train.log').read_text() == 'the first part' and (folder / 'train_2.log').exists()
    assert result['resumed'] == [0] and 'resumed, which changes' in (folder.parent / 'repeat.md').read_text()
    assert result['splits']['val']['seg/mIoU']['values'] == [50, 51]


def test_a_seed_that_has_no_checkpoint_yet_starts_in_its_folder_and_does_not_count_as_resumed(project):
    folder = interrupted(project)
    for path in folder.glob('*.pth'):
        path.unlink()
    assert call(project, [0])['resumed'] == []
    assert trained(project) == [0, 0] and set_aside(folder) == []


@pytest.mark.parametrize('part', ['settings', 'code'])
def test_what_cannot_be_resumed_is_set_aside(project, part):
    folder = interrupted(project, **{part: 'older'})
    result = call(project, [0])
    assert trained(project) == [0, 0] and '--resume' not in (project / 'trained.txt').read_text()
    (there,) = set_aside(folder)
    assert (there / 'epoch_1.pth').read_text() == 'a day of work' and f'changed_since_{part}' in there.name
    assert not (folder / 'epoch_1.pth').exists() and result['resumed'] == []


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
    (there,) = set_aside(path.parent)
    assert 'changed_since_code' in there.name and (there / 'epoch_2.pth').exists()
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
    (there,) = set_aside(path.parent)
    assert (there / 'epoch_2.pth').exists()


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


def test_an_interrupt_ends_what_runs_and_starts_nothing(project, monkeypatch):
    train = TRAIN.replace('if seed == 13', 'import time\nwhile True: time.sleep(1)\nif seed == 13')
    (project / 'tools' / 'train.py').write_text(train)
    started = project / 'work_dirs/repeat_toy/seed_0/started.json'

    def interrupt():
        wait_for(lambda: started.exists() and started.read_text().endswith('}'))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call(project, [0, 1, 2])
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert trained(project) == [0]
    with pytest.raises(ProcessLookupError):
        os.kill(json.loads(started.read_text())['pid'], 0)


def test_seeds_at_the_same_time_have_gpus_of_their_own(project, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(repetition, 'available_cores', lambda: 8)
    # Each waits for the other, so that both run at the same time.
    wait = (
        'import time; deadline = time.monotonic() + 120\n'
        "while len(list(work.parent.glob('*/started.json'))) < 2 and time.monotonic() < deadline: time.sleep(0.01)\n"
        'if seed == 13'
    )
    (project / 'tools' / 'train.py').write_text(TRAIN.replace('if seed == 13', wait))
    call(project, [0, 1], jobs=2)
    started = [json.loads((project / f'work_dirs/repeat_toy/seed_{seed}/started.json').read_text()) for seed in (0, 1)]
    assert {entry['devices'] for entry in started} == {'4', '6'}
    assert [entry['threads'] for entry in started] == ['4', '4']


def test_several_processes_have_a_gpu_each(project, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,3')
    places = []

    def run_jobs(jobs, at_once, environment, console):
        places.extend(environment(place)['CUDA_VISIBLE_DEVICES'] for place in range(at_once))
        raise UserError('enough is seen')

    monkeypatch.setattr(repetition, 'run_jobs', run_jobs)
    with pytest.raises(UserError, match='enough'):
        call(project, [0, 1, 2], jobs=2, processes=2)
    assert places == ['0,1', '2,3']


def test_without_gpus_nothing_is_said_about_devices(project):
    call(project, [0, 1], jobs=2)
    started = json.loads((project / 'work_dirs/repeat_toy/seed_0/started.json').read_text())
    assert started['devices'] == ''


def test_more_processes_than_gpus_are_refused(project, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5')
    with pytest.raises(UserError, match=r'--processes 2 needs 2 GPUs, but this process sees 1 \(5\)') as error:
        call(project, [0], processes=2)
    assert '\n' not in str(error.value) and not (project / 'trained.txt').exists()


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
