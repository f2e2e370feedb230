import argparse
import errno

import pytest
from mmengine.registry import Registry

from csrm_plugin.config.arguments import OptionsAction, add_config_arguments
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.cli import describe_error, run_tool


def run(error, *argv, monkeypatch=None):
    """Run a tool that raises `error`; the exit status."""

    def main(args):
        raise error

    with pytest.raises(SystemExit) as stopped:
        run_tool(main, argparse.ArgumentParser(), list(argv))
    return stopped.value.code


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (UserError('`a` must be\nbelow `b`'), '`a` must be below `b`'),
        (MissingFileError('no file x'), 'no file x'),
        (FileNotFoundError(errno.ENOENT, 'No such file or directory', 'x.png'), 'No such file or directory: x.png'),
        (PermissionError(errno.EACCES, 'Permission denied', '/x'), 'Permission denied: /x'),
        (OSError(errno.ENOSPC, 'No space left on device'), 'no space left on the disk'),
        (BrokenPipeError(), 'the program that read the output has gone'),
    ],
)
def test_mendable_errors_are_one_line_and_exit_1(error, line, capfd):
    assert run(error) == 1
    out, err = capfd.readouterr()
    assert err.startswith(f'error: {line}')
    assert err.count('\n') == 1
    assert out == ''


def test_interrupt_exits_130(capsys):
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == 'error: interrupted\n'


def test_debug_shows_the_traceback(capsys):
    assert run(UserError('mend me'), '--debug') == 1
    err = capsys.readouterr().err
    assert 'Traceback' in err
    assert err.endswith('error: mend me\n')


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda args: 1 / 0, argparse.ArgumentParser(), [])


@pytest.mark.parametrize(('returned', 'status'), [(None, 0), (0, 0), (3, 3)])
def test_exit_status_is_what_main_returns(returned, status):
    with pytest.raises(SystemExit) as stopped:
        run_tool(lambda args: returned, argparse.ArgumentParser(), [])
    assert stopped.value.code == status


def test_other_ranks_say_who_they_are(monkeypatch, capsys):
    monkeypatch.setenv('RANK', '2')
    assert run(UserError('x')) == 1
    assert capsys.readouterr().err == '[rank 2] error: x\n'


def test_unknown_type_and_setting_in_a_config():
    registry = Registry('thing')

    @registry.register_module()
    class Known:
        def __init__(self, width=1):
            if width == 'bug':
                print(unknown=1)

    with pytest.raises(KeyError) as unknown_type:
        registry.build(dict(type='Knwon'))
    assert '`Knwon` is no known `type`' in describe_error(unknown_type.value)
    with pytest.raises(TypeError) as unknown_setting:
        registry.build(dict(type='Known', widht=2))
    assert 'widht' in describe_error(unknown_setting.value)
    assert describe_error(TypeError("f() got an unexpected keyword argument 'x'")) is None
    assert describe_error(KeyError('x')) is None


def test_error_of_a_loader_process_loses_its_traceback():
    wrapped = UserError(
        'Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
        '  File "a.py", line 1, in f\ncsrm_plugin.utils.UserError: picture a.jpg is not there\n'
    )
    assert describe_error(wrapped) == 'picture a.jpg is not there'


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1', 1),
        ('1e-3', 1e-3),
        ('None', None),
        ('true', True),
        ('', ''),
        ('1,2', [1, 2]),
        ('[(1, 2), [3]]', [(1, 2), [3]]),
        ('"[1,2]"', [1, 2]),
        ('a b/c d.pth', 'a b/c d.pth'),
        ("'a, b'", 'a, b'),
        ('{"a": 1, "b": null}', {'a': 1, 'b': None}),
        ("{'a': (1, 2)}", {'a': (1, 2)}),
        ('[{"type": "X"}]', [{'type': 'X'}]),
    ],
)
def test_option_values(text, value):
    parsed = OptionsAction.parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize('option', ['novalue', '=1', 'a=[1,(2', 'a={1'])
def test_malformed_options_are_usage_errors(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        add_config_arguments(argparse.ArgumentParser()).parse_args(['c.py', '--cfg-options', option])
    assert stopped.value.code == 2
    assert '--cfg-options' in capsys.readouterr().err


def test_options_add_up_and_start_empty():
    parse = add_config_arguments(argparse.ArgumentParser()).parse_args
    assert parse(['c.py']).cfg_options == {}
    options = parse(['c.py', '--cfg-options', 'a.b=1', 'c=x=y', '--cfg-options', 'd=2']).cfg_options
    assert options == {'a.b': 1, 'c': 'x=y', 'd': 2}
    assert parse(['c.py']).cfg_options == {}
