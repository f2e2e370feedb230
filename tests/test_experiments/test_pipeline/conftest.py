"""A project whose pipeline takes moments: every stage writes one file."""

import io
import os

import pytest
import yaml
from rich.console import Console

from csrm_plugin.experiments.pipeline import run as run_module
from csrm_plugin.experiments.pipeline.runner import run_pipeline
from csrm_plugin.experiments.pipeline.stages import Stage

TOOL = '''
"""A tool."""
import os, sys, time
out, text = sys.argv[1:3]
if os.environ.get('TOY_FAIL') == text:
    print('work, work')
    print('error: the toy is broken')
    sys.exit(1)
if os.environ.get('TOY_SLEEP') == text:
    open(out + '.begun', 'w').close()
    time.sleep(600)
with open(out, 'w') as file:
    file.write(' '.join(sys.argv[2:]) + os.environ.get('TOY_MORE', ''))
'''
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
    def commands(self):
        more = self.options.get('options') or ()  # decide on what comes out
        values = more.values() if isinstance(more, dict) else more
        return [['tools/toy.py', self.path('out.txt'), self.spec.name, *map(str, values)]]

    def outputs(self):
        return ['out.txt']

    def finish(self):
        return dict(scores=dict(val={'miou': 50.0}), context=dict(flip=True))


class ToyTraining(ToyStage):
    trains = True


class ToyTable(ToyStage):
    by_content = False


class ToyMasks(ToyStage):
    def missing(self):
        return None if os.environ.get('TOY_MASKS') else 'TOY_MASKS is not set'


def install(patch=setattr):
    """Put the toy stages into the place of the real ones."""
    patch(run_module, 'RunData', ToyData)
    patch(
        run_module, 'STAGES', dict(data=ToyStage, train=ToyTraining, verify=ToyTraining, masks=ToyMasks, table=ToyTable)
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a pipeline whose stages write one file each; the working directory."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'toy.py').write_text(TOOL)
    for folder, suffix in (('JPEGImages', '.jpg'), ('SegmentationClass', '.png')):
        (tmp_path / 'data' / folder).mkdir(parents=True)
        for name in ('a', 'b'):
            (tmp_path / 'data' / folder / (name + suffix)).write_text('x')
    for split, name in (('train', 'a'), ('val', 'b')):
        (tmp_path / 'data' / f'{split}.txt').write_text(name)
    (tmp_path / 'toy.yaml').write_text(yaml.safe_dump(RECIPE))
    install(monkeypatch.setattr)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project):
    """Function: run the pipeline of the project in `run`; gives the outcome and what it said."""

    def call(**given):
        out = io.StringIO()
        outcome = run_pipeline(
            str(project / 'toy.yaml'), str(project), Console(file=out, width=200), **{'work_dir': 'run', **given}
        )
        return outcome, out.getvalue()

    return call


@pytest.fixture
def change(project):
    """Function: change options of a stage in the recipe, or keys of the pipeline."""

    def call(stage=None, **given):
        recipe = yaml.safe_load((project / 'toy.yaml').read_text())
        target = recipe if stage is None else next(entry for entry in recipe['stages'] if entry['name'] == stage)
        target.update(given)
        (project / 'toy.yaml').write_text(yaml.safe_dump(recipe))

    return call
