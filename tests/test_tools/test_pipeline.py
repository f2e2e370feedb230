import importlib.util
import json
import os
import random
import signal
import subprocess
import sys

import pytest
import yaml

from csrm_plugin.utils.cli import run_tool


@pytest.fixture(scope='module')
def tool(request):
    path = request.config.rootpath / 'tools' / 'pipeline.py'
    spec = importlib.util.spec_from_file_location('pipeline_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(tool, *argv):
    with pytest.raises(SystemExit) as end:
        run_tool(tool.main, tool.build_parser(), list(argv))
    return end.value.code


def test_a_dry_run_names_every_command(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(tool, 'demo', '--dry-run') == 0
    out = capsys.readouterr().out
    for name in ('train.py', 'test.py', 'pseudo_labels.py', 'evaluate_labels.py', 'sam_masks.py', 'refine_sam.py'):
        assert f'python tools/{name}' in out
    assert 'table: would run' in out
    assert not (tmp_path / 'data').exists()


def test_mistakes_are_one_line(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(tool, 'nosuch') == 1
    assert capsys.readouterr().err.startswith('error: there is no pipeline `nosuch`')
    monkeypatch.setenv('MSRC_ROOT', str(tmp_path / 'nowhere'))
    assert call(tool, 'msrc') == 1
    assert 'nowhere does not exist' in capsys.readouterr().err


def quick_recipe(root):
    """The demo pipeline with trainings of a moment."""
    recipe = yaml.safe_load((root / 'mmcfg' / 'pipelines' / 'demo.yaml').read_text())
    for stage in recipe['stages']:
        if stage['kind'] in ('train', 'verify'):
            stage['options'] = {
                'train_cfg.max_epochs': 2,
                'train_cfg.val_interval': 2,
                'train_dataloader.batch_size': 8,
            }
        if stage['name'] == 'csrm':
            stage['options'] |= {'custom_hooks.0.iters': 2, 'custom_hooks.0.ramp_iters': 2}
        if 'scales' in stage:
            stage['scales'] = [1]
    return recipe


@pytest.mark.long
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_table(root, tmp_path):
    (tmp_path / 'quick.yaml').write_text(yaml.safe_dump(quick_recipe(root)))
    environment = {**os.environ, 'DEMO_ROOT': str(tmp_path / 'data'), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(root / 'tools' / 'pipeline.py'), str(tmp_path / 'quick.yaml'), '--work-dir']

    def go(folder, timeout=None):
        process = subprocess.Popen([*command, folder], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        try:
            return process.communicate(timeout=timeout)[0], process.returncode
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return None, None

    text, status = go('whole')
    assert status == 0 and 'Networks trained on the labels' in text
    text, status = go('whole')
    assert status == 0 and '0 stages ran, 15 were up to date' in text
    pause, kills = random.Random(0), 0  # longer each time, for a slow machine must come through a stage as well
    while True:
        text, status = go('killed', timeout=pause.uniform(10, 60) * 1.2**kills)
        if status is not None:
            break
        kills += 1
    assert status == 0 and kills >= 3
    whole, killed = (json.loads((tmp_path / name / 'table' / 'table.json').read_text()) for name in ('whole', 'killed'))
    assert whole == killed
