"""A toy project: a `tools/train.py` that logs at once, a config, and sweep files."""

import io
import json
import textwrap

import optuna
import pytest
import yaml
from rich.console import Console

from csrm_plugin.experiments.sweep import definition, runner, study

# model.x is the metric's slope; model.mode says how the training ends; each start is noted in began.txt.
TRAIN = """
import json, os, signal, sys, time

arguments = sys.argv[1:]
options = dict(item.split('=', 1) for item in arguments if '=' in item and not item.startswith('--'))
work_dir = arguments[arguments.index('--work-dir') + 1]
root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
x, y, mode = (options.get('model.' + name, '0') for name in ('x', 'y', 'mode'))
with open(os.path.join(root, 'began.txt'), 'a') as file:
    file.write(f'x={x} y={y} mode={mode}\\n')
with open(os.path.join(work_dir, 'started.json'), 'w') as file:
    names = ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', 'WANDB_RUN_GROUP', 'CSRM_DIE_WITH_PARENT')
    json.dump(dict(arguments=arguments, pid=os.getpid(), env={name: os.environ.get(name) for name in names}), file)
os.makedirs(os.path.join(work_dir, '20260101_000000', 'vis_data'))
with open(os.path.join(work_dir, '20260101_000000', 'vis_data', 'scalars.json'), 'a') as file:
    for step in range(1, int(options.get('model.steps', 2)) + 1):
        line = {'loss': 1.0, 'step': 10 * step - 5}
        file.write(json.dumps(line) + '\\n')
        if mode != 'silent':
            value = float('nan') if mode == 'diverge' else float(x) * step
            file.write(json.dumps({'seg/mIoU': value, 'step': 10 * step}) + '\\n')
        file.flush()
        time.sleep(float(os.environ.get('TOY_SLEEP', options.get('model.sleep', 0))))
with open(os.path.join(root, 'ended.txt'), 'a') as file:
    file.write(f'x={x} y={y} mode={mode}\\n')
if mode == 'crash':
    print('some words')
    print('error: the toy is broken')
    sys.exit(1)
if mode == 'shot':
    os.kill(os.getpid(), signal.SIGKILL)
"""
CONFIG = "model = dict(x=0.0, y=0, mode='ok', steps=2, sleep=0)\nload_from = None\n"
COMMAND = ['${env}', 'python', 'tools/train.py', 'conf.py', '--cfg-options', '${args_no_hyphens}']


class Toy:
    """The toy project in a folder.

    Args:
        folder (pathlib.Path): Where it is; it must be the working directory.
    """

    def __init__(self, folder):
        self.folder = folder
        (folder / 'tools').mkdir()
        (folder / 'tools' / 'train.py').write_text(textwrap.dedent(TRAIN))
        (folder / 'conf.py').write_text(CONFIG)

    def content(self, parameters, method='grid', **more):
        metric = {'name': 'seg/mIoU', 'goal': 'maximize'}
        return {'command': COMMAND, 'method': method, 'metric': metric, 'parameters': parameters, **more}

    def write(self, parameters, method='grid', name='toy.yaml', **more):
        (self.folder / name).write_text(yaml.safe_dump(self.content(parameters, method, **more)))
        return name

    def sweep(self, parameters, method='grid', **more):
        return definition.parse_sweep(self.content(parameters, method, **more), 'toy.yaml')

    def shared(self, sweep, trials=None, folder='sweep', setting=None, **more):
        (self.folder / folder).mkdir(exist_ok=True)
        return study.SharedStudy(sweep, folder, 'toy', setting or {'config': 'conf.py'}, trials, **more)

    def run(self, parameters, method='grid', options=None, more=None, work_dir='sweep', **arguments):
        """Run a sweep in this process; gives sweep.json and what was printed."""
        console = Console(record=True, width=300, file=io.StringIO())
        path = self.write(parameters, method, **(more or {}))
        try:
            content = runner.run_sweep(path, str(self.folder), console, options=options, work_dir=work_dir, **arguments)
        finally:
            self.printed = console.export_text()
        assert json.loads((self.folder / work_dir / 'sweep.json').read_text())['trials'] == content['trials']
        return content

    def result(self):
        return json.loads((self.folder / 'sweep' / 'sweep.json').read_text())

    def began(self):
        path = self.folder / 'began.txt'
        return path.read_text().splitlines() if path.exists() else []

    def ended(self):
        path = self.folder / 'ended.txt'
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy project, in a folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, 'PAUSE', 0.02)
    monkeypatch.setattr(runner, 'LOOK', 0.1)
    for name in ('CUDA_VISIBLE_DEVICES', 'WANDB_RUN_GROUP', 'TOY_SLEEP'):
        monkeypatch.delenv(name, raising=False)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield Toy(tmp_path)
    optuna.logging.set_verbosity(before)
