"""The files in sweeps/: they say what W&B takes, and vary settings that the configs have, in ranges that they take."""

import argparse

import pytest
import yaml

from csrm_plugin.config.arguments import OptionsAction, add_config_arguments
from csrm_plugin.config.load import load_config
from csrm_plugin.config.provenance import config_settings

NAMES = ('ablation', 'alpha', 'csrm_bayes', 'delta_fg', 'loss_weights', 'rml_ablation', 'rml_bayes')
KEYS = {
    'name',
    'description',
    'project',
    'program',
    'method',
    'metric',
    'parameters',
    'command',
    'run_cap',
    'early_terminate',
}


def method(name):
    """Whose settings a file varies: the name that the configs begin with."""
    return 'rml' if name.startswith('rml') else 'csrm'


@pytest.fixture(params=NAMES)
def sweep(request, root):
    return yaml.safe_load((root / 'sweeps' / f'{request.param}.yaml').read_text())


def ends(parameter):
    """The values of a list, or the bounds of a range."""
    return parameter['values'] if 'values' in parameter else [parameter['min'], parameter['max']]


def as_agent(command, values):
    """A command as `wandb agent` makes it; it sorts the parameters."""
    arguments = [f'{key}={value}' for key, value in sorted(values.items())]
    return [part for item in command for part in (arguments if item == '${args_no_hyphens}' else [item])]


def read(command, program='tools/train.py'):
    """What the tool reads from a command."""
    parser = add_config_arguments(argparse.ArgumentParser(exit_on_error=False))
    return parser.parse_args(command[command.index(program) + 1 :])


def test_every_file_can_be_read_and_none_is_missing(root):
    definition = pytest.importorskip('csrm_plugin.experiments.sweep.definition')
    files = {path.stem: path for path in (root / 'sweeps').glob('*.yaml')}
    assert set(NAMES) <= set(files)
    for path in files.values():
        assert definition.read_sweep(str(path)).metric.name == 'pseudo/mIoU'


def test_files_say_what_is_logged_and_how_to_run_it(sweep):
    config = f'mmcfg/{method(sweep["name"])}_voc.py'
    assert set(sweep) <= KEYS
    assert sweep['metric'] == {'name': 'pseudo/mIoU', 'goal': 'maximize'}
    assert sweep['command'] == ['${env}', 'python', 'tools/train.py', config, '--cfg-options', '${args_no_hyphens}']
    assert sweep['program'] == 'tools/train.py'
    assert sweep['method'] == 'grid' or sweep['run_cap'] > 1
    for parameter in sweep['parameters'].values():
        if sweep['method'] == 'grid':
            assert set(parameter) == {'values'} and len(set(parameter['values'])) == len(parameter['values'])
        else:
            assert parameter['distribution'] in ('uniform', 'log_uniform_values')
            assert 0 < parameter['min'] < parameter['max']


@pytest.mark.parametrize('data, bounds', [('voc', (min, max)), ('demo', (min,))])
def test_every_trial_can_be_configured(sweep, root, data, bounds):
    name = method(sweep['name'])
    config = str(root / 'mmcfg' / f'{name}_{data}.py')
    command = [part.replace(f'mmcfg/{name}_voc.py', config) for part in sweep['command']]
    for bound in bounds:
        values = {key: bound(ends(parameter)) for key, parameter in sweep['parameters'].items()}
        args = read(as_agent(command, values))
        cfg = load_config(args.config, args.cfg_options)
        settings, pseudo = config_settings(cfg), cfg.model.pseudo_label
        assert pseudo.bg_threshold < pseudo.fg_threshold < 1
        assert all(settings[key] == value for key, value in values.items() if '.' in key)


def test_the_paper_is_among_the_trials(root):
    for name in NAMES:
        paper = config_settings(load_config(str(root / 'mmcfg' / f'{method(name)}_voc.py')))
        parameters = yaml.safe_load((root / 'sweeps' / f'{name}.yaml').read_text())['parameters']
        for key, parameter in parameters.items():
            if name in ('delta_fg', 'alpha'):
                assert paper[key] in parameter['values']
            elif not name.endswith('ablation'):
                assert parameter['min'] < paper[key] < parameter['max']


@pytest.mark.parametrize('name', ['ablation', 'rml_ablation'])
def test_ablation_is_that_of_the_configs(root, name):
    values = yaml.safe_load((root / 'sweeps' / f'{name}.yaml').read_text())['parameters']['model']['values']
    config = str(root / 'mmcfg' / f'{method(name)}_voc.py')
    rows = [*sorted((root / 'mmcfg' / 'ablations').glob(f'{method(name)}_voc_[0-9]*.py')), config]
    assert len(values) == len(rows) == 4
    for value, row in zip(values, rows):
        cfg = load_config(config, {'model': OptionsAction.parse_value(value)})
        assert config_settings(cfg) == config_settings(load_config(str(row)))


def test_the_command_for_several_gpus_is_understood(root, sweep, request):
    name = request.node.callspec.params['sweep']
    lines = (root / 'sweeps' / f'{name}.yaml').read_text().splitlines()
    start = lines.index('# Several GPUs per trial:') + 1
    command = yaml.safe_load('\n'.join(line[2:] for line in lines[start:]))['command']
    processes = {'csrm': 4, 'rml': 2}[method(name)]
    assert command[:4] == ['${env}', 'torchrun', '--standalone', f'--nproc_per_node={processes}']
    values = {key: ends(parameter)[0] for key, parameter in sweep['parameters'].items()}
    args = read(as_agent(command, values))
    config = f'mmcfg/{method(name)}_voc.py'
    assert (args.config, args.launcher, set(args.cfg_options)) == (config, 'pytorch', set(values))


def test_the_local_runner_takes_the_same_files(root, sweep, request):
    definition = pytest.importorskip('csrm_plugin.experiments.sweep.definition')
    read_back = definition.read_sweep(str(root / 'sweeps' / f'{request.node.callspec.params["sweep"]}.yaml'))
    assert [parameter.name for parameter in read_back.parameters] == sorted(sweep['parameters'])
