import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
import yaml
from rich.console import Console

from csrm_plugin.experiments.pipeline import cards, runner
from csrm_plugin.experiments.pipeline.stages import Stage
from csrm_plugin.utils import UserError

TOOL = """
import os, sys, time
out, text = sys.argv[1:3]
if os.environ.get('TOY_FAIL') == text:
    print('work, work')
    print('error: the toy is broken')
    sys.exit(1)
if os.environ.get('TOY_SLEEP') == text:
    open(out + '.begun', 'w').close()
    time.sleep(60)
with open(out, 'w') as file:
    file.write(text)
"""
RECIPE = dict(
    dataset='toy',
    config='toy.py',
    splits=['train', 'val'],
    stages=[
        dict(name='first', kind='data', config='toy.py'),
        dict(name='second', kind='train', config='toy.py'),
        dict(name='third', kind='verify', config='toy.py', labels='truth', start='second'),
        dict(name='extra', kind='masks', generator='$TOY_MASKS', optional=True),
    ],
)


class ToyData:
    splits = ('train', 'val')
    root, pictures, masks, suffix = 'data', 'data/JPEGImages', 'data/SegmentationClass', '.jpg'

    def __init__(self, recipe, config):
        pass

    def load(self):
        pass

    def list_of(self, split):
        return f'data/{split}.txt'

    def label_file(self, split):
        return None


class ToyStage(Stage):
    code = ('functional',)

    def commands(self):
        return [['tools/toy.py', self.path('out.txt'), self.spec.name]]

    def outputs(self):
        return ['out.txt']

    def finish(self):
        return dict(scores=dict(val={'miou': 50.0}), context=dict(flip=True))


class ToyMasks(ToyStage):
    def missing(self):
        return None if os.environ.get('TOY_MASKS') else 'TOY_MASKS is not set'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a pipeline whose stages write one file each."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'toy.py').write_text(TOOL)
    for folder, suffix in (('JPEGImages', '.jpg'), ('SegmentationClass', '.png')):
        (tmp_path / 'data' / folder).mkdir(parents=True)
        for name in ('a', 'b'):
            (tmp_path / 'data' / folder / (name + suffix)).write_text('x')
    for split, name in (('train', 'a'), ('val', 'b')):
        (tmp_path / 'data' / f'{split}.txt').write_text(name)
    (tmp_path / 'toy.yaml').write_text(yaml.safe_dump(RECIPE))
    monkeypatch.setattr(runner, 'RunData', ToyData)
    monkeypatch.setattr(runner, 'STAGES', dict(data=ToyStage, train=ToyStage, verify=ToyStage, masks=ToyMasks))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(project, **given):
    out = io.StringIO()
    console = Console(file=out, width=200)
    outcome = runner.run_pipeline(str(project / 'toy.yaml'), str(project), console, work_dir='run', **given)
    return outcome, out.getvalue()


def test_every_stage_runs_once_and_leaves_a_card(project):
    outcome, text = run(project)
    assert outcome['ran'] == ['first', 'second', 'third'] and outcome['left_out'] == ['extra']
    assert 'extra: left out, TOY_MASKS is not set' in text and 'first: runs, it has not run here yet' in text
    card = json.loads((project / 'run' / 'second' / 'card.json').read_text())
    assert (card['stage'], card['number'], card['status'], card['seed']) == ('second', 2, 'done', 0)
    assert card['scores'] == dict(val=dict(miou=50.0)) and card['context'] == dict(flip=True)
    assert card['inputs'] == dict(first=cards.read_card('run/first')['key'])
    assert card['data']['val']['pictures'] == 1
    assert card['time']['seconds'] >= 0 and card['memory']['peak_mib'] > 1 and card['versions']['torch']
    assert card['command'] == [f'python tools/toy.py {os.path.join("run", "second", "out.txt")} second']

    outcome, text = run(project)
    assert outcome['ran'] == [] and outcome['skipped'] == ['first', 'second', 'third']
    assert text.count('skipped, inputs, code and settings are those of') == 3


def test_what_changed_decides_what_runs_again(project, monkeypatch):
    run(project)
    stages = [dict(stage) for stage in RECIPE['stages']]
    stages[1]['options'] = dict(lr=1)
    (project / 'toy.yaml').write_text(yaml.safe_dump({**RECIPE, 'stages': stages}))
    outcome, text = run(project)
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
    assert 'second: runs, changed since: settings of the pipeline' in text
    assert 'third: runs, changed since: inputs (second)' in text

    assert 'changed since: seed' in run(project, seed=1)[1]
    monkeypatch.setenv('TOY_MASKS', 'x')
    assert run(project, seed=1)[0]['ran'] == ['extra']
    monkeypatch.setattr(runner.provenance, 'code_hash', lambda packages: 'other')
    assert 'first: runs, changed since: code of the project' in run(project, seed=1)[1]


def test_what_was_made_again_makes_what_stands_on_it_run_again(project):
    run(project)
    (project / 'run' / 'first' / 'out.txt').unlink()
    outcome, text = run(project)
    assert outcome['ran'] == ['first', 'second', 'third'] and 'first: runs, its output out.txt is gone' in text
    (project / 'run' / 'second' / 'out.txt').write_text('edited')
    outcome, text = run(project)
    assert outcome['ran'] == ['second', 'third'] and 'second: runs, its output out.txt was changed' in text
    assert (project / 'run' / 'second' / 'out.txt').read_text() == 'second'
    (project / 'data' / 'JPEGImages' / 'a.jpg').write_text('another picture')
    outcome, text = run(project)
    assert outcome['ran'] == ['first', 'second', 'third'] and 'first: runs, changed since: data' in text
    assert run(project)[0]['ran'] == []


def test_keys_are_the_same_in_every_run(project):
    run(project)
    keys = {name: cards.read_card(f'run/{name}')['key'] for name in ('first', 'second', 'third')}
    shutil.move('run', 'other')
    run(project)
    assert {name: cards.read_card(f'run/{name}')['key'] for name in keys} == keys


def test_a_folder_counts_by_its_files(tmp_path):
    (tmp_path / 'a.png').write_text('1')
    before = runner.content_of(tmp_path)
    (tmp_path / '.b.png').write_text('temporary')
    assert runner.content_of(tmp_path) == before
    (tmp_path / 'b.png').write_text('2')
    assert runner.content_of(tmp_path) != before


def test_from_and_until(project):
    assert run(project, until='second')[0]['ran'] == ['first', 'second']
    left = project / 'run' / 'second' / 'left.txt'
    left.write_text('old')
    outcome, text = run(project, start='second')
    assert not left.exists() and not (project / 'run' / 'second.old').exists()
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
    assert 'asked for by --from' in text
    with pytest.raises(UserError, match='--until first comes before --from second'):
        run(project, start='second', until='first')
    with pytest.raises(UserError, match='--gpus must be at least 1'):
        run(project, gpus=0)
    with pytest.raises(UserError, match='has no stage `secnd`; did you mean `second`'):
        run(project, until='secnd')


def test_a_dry_run_shows_commands_and_changes_nothing(project):
    outcome, text = run(project, dry_run=True)
    assert 'first: would run' in text and 'python tools/toy.py run/first/out.txt first' in text
    assert len(outcome['ran']) == 3 and not (project / 'run').exists()


def test_a_failure_is_one_line_with_the_reason_and_the_log_and_can_be_mended(project, monkeypatch):
    monkeypatch.setenv('TOY_FAIL', 'second')
    with pytest.raises(UserError, match=r'stage second failed at toy: the toy is broken; its log is run.*01_toy\.log'):
        run(project)
    monkeypatch.delenv('TOY_FAIL')
    outcome, text = run(project)
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
    assert 'second: runs, it was not finished' in text


def test_what_an_interrupted_training_left_is_not_mixed_with_a_new_one(project, monkeypatch):
    monkeypatch.setenv('TOY_FAIL', 'second')
    with pytest.raises(UserError):
        run(project)
    left = project / 'run' / 'second' / 'epoch_3.pth'
    left.write_text('old')
    with pytest.raises(UserError):
        run(project)
    assert not left.exists()


def test_what_was_done_stays_until_the_new_one_is_done(project, monkeypatch):
    run(project)
    monkeypatch.setenv('TOY_FAIL', 'second')
    with pytest.raises(UserError):
        run(project, start='second')
    assert (project / 'run' / 'second.old' / 'out.txt').exists()
    monkeypatch.delenv('TOY_FAIL')
    run(project)
    assert not (project / 'run' / 'second.old').exists()


def test_label_maps_of_the_same_settings_are_kept(project, monkeypatch):
    monkeypatch.setenv('TOY_MASKS', 'x')
    monkeypatch.setenv('TOY_FAIL', 'extra')
    with pytest.raises(UserError):
        run(project)
    left = project / 'run' / 'extra' / 'mask.json'  # whole, for tools write by renaming; each is skipped if it is there
    left.write_text('made')
    monkeypatch.delenv('TOY_FAIL')
    assert run(project)[0]['ran'] == ['extra'] and left.exists()


def test_trainings_go_on_where_the_pipeline_asks_for_it(project):
    recipe = runner.load_recipe(str(project / 'toy.yaml'), str(project))
    for resume in (False, True):
        run_ = runner.Run(replace(recipe, resume=resume), str(project), 'run')
        assert runner.may_go_on(run_.stages['second']) is resume
        assert ('--resume' in run_.train_command('c.py', [])) is resume
    assert '--nproc_per_node=4' in runner.Run(recipe, str(project), 'run', gpus=4).train_command('c.py', [])


def test_a_second_pipeline_is_kept_out(project):
    os.makedirs('run', exist_ok=True)
    with runner.only_one('run'), pytest.raises(UserError, match='another process is at work in `run`'):
        run(project)
    assert run(project)[0]['ran']


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from test_runner import ToyData, ToyMasks, ToyStage
from rich.console import Console
from csrm_plugin.experiments.pipeline import runner
runner.RunData = ToyData
runner.STAGES = dict(data=ToyStage, train=ToyStage, verify=ToyStage, masks=ToyMasks)
runner.run_pipeline({recipe!r}, {root!r}, Console(), work_dir='run')
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='needs the parent-death signal of Linux')
def test_a_killed_pipeline_takes_its_child_with_it_and_goes_on_later(project, root):
    script = SCRIPT.format(here=os.path.dirname(__file__), recipe=str(project / 'toy.yaml'), root=str(project))
    (project / 'go.py').write_text(textwrap.dedent(script))
    environment = {**os.environ, 'TOY_SLEEP': 'second', 'PYTHONPATH': str(root)}
    process = subprocess.Popen([sys.executable, 'go.py'], env=environment, stdout=subprocess.DEVNULL)
    begun = project / 'run' / 'second' / 'out.txt.begun'
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.3)
    alive = subprocess.run(['pgrep', '-f', str(project / 'tools' / 'toy.py')], capture_output=True, text=True).stdout
    assert alive == ''
    outcome, _ = run(project)
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
