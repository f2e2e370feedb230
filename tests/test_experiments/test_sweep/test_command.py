import sys

import pytest

from csrm_plugin.experiments.sweep.command import parse_command
from csrm_plugin.utils import UserError

TAIL = ['tools/train.py', 'conf.py', '--cfg-options', '${args_no_hyphens}']
PARAMETERS = {'model.x': {'values': [0.5, 1.0]}, 'model.mode': {'value': 'ok'}}


def command(toy, items, options=None, config=None, parameters=PARAMETERS, **more):
    return parse_command(toy.sweep(parameters, command=items, **more), str(toy.folder), config, options)


def test_a_trial_gets_its_values_its_folder_and_the_fixed_settings(toy):
    built = command(toy, ['${env}', 'python', *TAIL], {'load_from': 'a.pth', 'model.y': 3})
    argv = built.build({'model.x': 0.5, 'model.mode': 'ok'}, 'out/trial_0000')
    assert argv == [
        sys.executable,
        'tools/train.py',
        'conf.py',
        '--cfg-options',
        'model.mode=ok',
        'model.x=0.5',
        '--cfg-options',
        'load_from=a.pth',
        'model.y=3',
        '--work-dir',
        'out/trial_0000',
    ]
    assert built.settings({'model.x': 0.5, 'model.mode': 'ok'}) == {
        'model.x': 0.5,
        'model.mode': 'ok',
        'load_from': 'a.pth',
        'model.y': 3,
    }


def test_macros_and_variables(toy, monkeypatch):
    monkeypatch.setenv('CONF', 'conf')
    items = ['${env}', 'A=b', '${interpreter}', '-u', '${program}', '${envvar:CONF}.py', *TAIL[2:]]
    built = command(toy, items, program='tools/train.py')
    assert built.head == (sys.executable, '-u', 'tools/train.py') and built.environment == {'A': 'b'}
    assert built.config == 'conf.py'
    monkeypatch.delenv('CONF')
    with pytest.raises(UserError, match='CONF is not set'):
        command(toy, items, program='tools/train.py')


@pytest.mark.parametrize(
    'head',
    [
        ['torchrun'],
        ['python', '-m', 'torch.distributed.run'],
        ['/usr/bin/env', 'python3', '-m', 'torch.distributed.run'],
    ],
)
def test_several_processes(toy, head):
    built = command(toy, [*head, '--standalone', '--nproc_per_node=2', *TAIL, '--launcher', 'pytorch'])
    assert built.head[:3] == (sys.executable, '-m', 'torch.distributed.run') and built.processes == 2
    assert built.head[3:] == ('--standalone', '--nproc_per_node=2', 'tools/train.py')
    assert built.build({'model.x': 1.0}, 'w')[-4:] == ['--launcher', 'pytorch', '--work-dir', 'w']


def test_another_config(toy):
    (toy.folder / 'other.py').write_text('a = 1\n')
    built = command(
        toy, ['python', 'tools/train.py', '--amp', 'conf.py', '--cfg-options', '${args_no_hyphens}'], config='other.py'
    )
    assert built.config == 'other.py'
    assert built.build({'model.x': 1.0}, 'w')[2:4] == ['--amp', 'other.py']
    none = command(toy, ['python', 'tools/train.py', '--cfg-options', '${args_no_hyphens}'], config='other.py')
    assert none.build({'model.x': 1.0}, 'w')[1:3] == ['tools/train.py', 'other.py']


def test_files_of_the_project_are_found_from_elsewhere(toy, monkeypatch):
    (toy.folder / 'elsewhere').mkdir()
    monkeypatch.chdir(toy.folder / 'elsewhere')
    built = command(toy, ['python', *TAIL])
    assert built.head[1] == str(toy.folder / 'tools' / 'train.py') and built.config == str(toy.folder / 'conf.py')


@pytest.mark.parametrize(
    ('items', 'words'),
    [
        (['python', 'train.py', 'conf.py', '${args_no_hyphens}'], 'must run tools/train.py'),
        (['bash', *TAIL], 'not with bash'),
        (TAIL, 'with python or torchrun'),
        (['python', '-m', 'pdb', *TAIL], 'torch.distributed.run'),
        (['python', 'tools/train.py', 'conf.py', '${args}'], 'which it does not know'),
        (['python', 'tools/train.py', 'conf.py', '${args_json}'], '`${args_json}` is not known here'),
        (['python', 'tools/train.py', 'conf.py', '${args_no_hyphen}'], 'did you mean `${args_no_hyphens}`'),
        (['python', 'tools/train.py', 'conf.py', '--cfg-options', 'x${args_no_hyphens}'], 'is not known here'),
        (['python', 'tools/train.py', 'conf.py'], 'never reach'),
        (['python', 'tools/train.py', '--cfg-options', '${args_no_hyphens}'], 'names no config'),
        (['python', *TAIL, '--work-dir', 'x'], 'leave it out'),
        (['python', *TAIL, '--fast'], '`--fast`, which it does not know'),
        (['python', '${program}', *TAIL[1:]], 'there is no `program`'),
    ],
)
def test_other_commands_are_refused(toy, items, words):
    with pytest.raises(UserError) as error:
        command(toy, items)
    assert words in str(error.value) and 'toy.yaml' in str(error.value)


def test_a_fixed_setting_that_is_varied_is_refused(toy):
    with pytest.raises(UserError, match=r'--cfg-options model.x: the sweep varies it'):
        command(toy, ['python', *TAIL], {'model.x': 1})
    rows = {'model': {'values': ['{"loss": null}', '{}', '{"head": {"a": 1, "b": 2}}']}}
    assert command(toy, ['python', *TAIL], {'model.x': 1, 'model.head.c': 3}, parameters=rows).options
    for key in ('model.loss.weight', 'model.head', 'model.head.b'):
        with pytest.raises(UserError, match='the sweep varies it'):
            command(toy, ['python', *TAIL], {key: 1}, parameters=rows)
