"""Turn the `command` of a sweep file into the command of a trial."""

import argparse
import os
import os.path as osp
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from csrm_plugin.config.arguments import add_config_arguments
from csrm_plugin.config.load import flatten
from csrm_plugin.experiments.sweep.definition import Sweep
from csrm_plugin.experiments.sweep.space import Parameter, format_argument, option_text, read_back
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.spelling import did_you_mean

MACROS = ('${env}', '${interpreter}', '${program}', '${args}', '${args_no_hyphens}')
PROGRAM = 'tools/train.py'
#: Ways in which files start several processes.
TORCHRUN = ('torch.distributed.run', 'torch.distributed.launch')

_VARIABLE = re.compile(r'\$\{envvar:([A-Z0-9_]*)\}')
_ASSIGNMENT = re.compile(r'([A-Za-z_]\w*)=(.*)', re.DOTALL)
_PYTHON = re.compile(r'python[\d.]*')


@dataclass(frozen=True)
class Command:
    """The command of a trial.

    Args:
        environment (dict[str, str]): Assignments before the interpreter.
        head (tuple[str, ...]): From the interpreter to the program.
        tail (tuple[str, ...]): Behind the program, with the macros for arguments; the config file is one of them.
        config (str): The config file.
        options (dict): Fixed settings, as ``--cfg-options`` of the sweep gives them.
        processes (int): Processes of one trial.
    """

    environment: dict[str, str]
    head: tuple[str, ...]
    tail: tuple[str, ...]
    config: str
    options: dict[str, Any]
    processes: int = 1

    def build(self, arguments: Mapping[str, Any], work_dir: str) -> list[str]:
        """The command for a trial.

        Args:
            arguments (dict): All parameters with their values.
            work_dir (str): The trial's folder.
        """
        fixed = [option_text(key, value) for key, value in self.options.items()]
        return [
            *self.head,
            *_expand(self.tail, arguments),
            *(['--cfg-options', *fixed] if fixed else []),
            '--work-dir',
            work_dir,
        ]

    def settings(self, arguments: Mapping[str, Any]) -> dict:
        """The settings that ``tools/train.py`` reads from the command of a trial."""
        return {**_parse(_expand(self.tail, arguments)).cfg_options, **self.options}


def parse_command(
    sweep: Sweep, root: str, config: str | None = None, options: Mapping[str, Any] | None = None
) -> Command:
    """Check the command of a sweep file and put what was asked for in its place.

    Args:
        sweep (Sweep): The sweep file.
        root (str): Folder of the project, where ``tools/train.py`` is if there is none here.
        config (str, optional): Config file in place of the one in the command.
        options (dict, optional): Fixed settings.

    Raises:
        UserError: If the command does not run ``tools/train.py``, uses something that only W&B's agent has, or sets a
            key twice.
        MissingFileError: If the config is not there.
    """
    options = dict(options or {})
    for key in flatten(options):
        if any(_overlap(key, other) for other in varied_keys(sweep.parameters)):
            raise UserError(f'--cfg-options {key}: the sweep varies it; leave it out, or remove it from {sweep.path}')
    try:
        items = _macros(sweep)
        head, tail, environment, processes = _split(items, root)
        example = {parameter.name: parameter.example() for parameter in sweep.parameters}
        place = _config_place(tail, example)
        config = config if config is not None else (None if place is None else tail[place])
        if config is None:
            raise UserError('`command` names no config file behind tools/train.py; name one, or give --config')
        path = project_file(config, root)
        tail = [path, *tail] if place is None else [*tail[:place], path, *tail[place + 1 :]]
        _check_arguments(sweep, tail, example)
    except UserError as error:
        if isinstance(error, MissingFileError):
            raise
        raise UserError(f'sweep file `{sweep.path}`: {error}') from error
    return Command(environment, tuple(head), tuple(tail), path, options, processes)


def varied_keys(parameters: Iterable[Parameter]) -> set[str]:
    """Dotted keys that a sweep sets; a value that is a dict is merged, so that only what is in it counts."""
    keys = set()
    for parameter in parameters:
        for value in parameter.values or [None]:
            read = read_back(value)
            keys |= set() if read == {} else set(flatten({parameter.name: read}))
    return keys


def _overlap(key: str, other: str) -> bool:
    return key == other or key.startswith(f'{other}.') or other.startswith(f'{key}.')


def project_file(path: str, root: str) -> str:
    """A file from here, else one of the project; unchanged where there is neither."""
    there = osp.join(root, path)
    return there if not osp.isfile(path) and osp.isfile(there) else path


def _macros(sweep: Sweep) -> list[str]:
    """The command with every macro but those for arguments filled in."""
    items = []
    for item in map(str, sweep.command):
        for name in _VARIABLE.findall(item):
            if name not in os.environ:
                raise UserError(f'`command` uses ${{envvar:{name}}}, but {name} is not set; set it')
        item = _VARIABLE.sub(lambda match: os.environ[match.group(1)], item)
        if item == '${program}' and not sweep.program:
            raise UserError('`command` uses ${program}, but there is no `program`')
        if '${' in item and item not in MACROS:
            hint = did_you_mean(item, MACROS)
            raise UserError(
                f'`command`: `{item}` is not known here{hint}; tools/train.py takes --cfg-options ${{args_no_hyphens}}'
            )
        items.append(
            {'${env}': '/usr/bin/env', '${interpreter}': 'python', '${program}': sweep.program}.get(item, item)
        )
    return items


def _split(items: Sequence[str], root: str) -> tuple[list[str], list[str], dict[str, str], int]:
    """Interpreter and program, what comes behind, assignments, and the number of processes."""
    place = next((i for i, item in enumerate(items) if osp.normpath(item).replace(os.sep, '/').endswith(PROGRAM)), None)
    if place is None:
        raise UserError(f'`command` must run {PROGRAM}, but is: {" ".join(items)}')
    before, environment = list(items[:place]), {}
    if before and osp.basename(before[0]) == 'env':
        before.pop(0)
        while before and (match := _ASSIGNMENT.fullmatch(before[0])):
            environment[match.group(1)] = match.group(2)
            before.pop(0)
    if not before:
        raise UserError(f'`command` must start {PROGRAM} with python or torchrun')
    first, rest = osp.basename(before[0]), before[1:]
    if first == 'torchrun':
        rest = ['-m', TORCHRUN[0], *rest]
    elif not _PYTHON.fullmatch(first):
        raise UserError(f'`command` must start {PROGRAM} with python or torchrun, not with {before[0]}')
    if '-m' in rest and rest[rest.index('-m') + 1 : rest.index('-m') + 2] not in ([name] for name in TORCHRUN):
        raise UserError(f'`command` must start {PROGRAM} itself or by torch.distributed.run')
    processes = _processes(rest) if '-m' in rest else 1
    return [sys.executable, *rest, project_file(items[place], root)], items[place + 1 :], environment, processes


def _processes(arguments: Sequence[str]) -> int:
    """Processes that torchrun starts; 1 where it does not say a number."""
    text = ' '.join(arguments)
    match = re.search(r'--nproc[-_]per[-_]node[= ](\d+)', text)
    return int(match.group(1)) if match else 1


def _expand(tail: Sequence[str], arguments: Mapping[str, Any]) -> list[str]:
    """Fill in the macros for arguments as W&B's agent does."""
    plain = [format_argument(name, value) for name, value in sorted(arguments.items())]
    filled = {'${args}': [f'--{item}' for item in plain], '${args_no_hyphens}': plain}
    return [part for item in tail for part in filled.get(item, [item])]


def _config_place(tail: Sequence[str], example: Mapping[str, Any]) -> int | None:
    """Index of the config file in ``tail``."""
    for place, item in enumerate(tail):
        if item not in MACROS and not item.startswith('-'):
            marked = [*tail[:place], '\0config', *tail[place + 1 :]]
            try:
                if _Parser().parse_known_args(_expand(marked, example))[0].config == '\0config':
                    return place
            except UserError:
                continue
    return None


def _check_arguments(sweep: Sweep, tail: Sequence[str], example: Mapping[str, Any]) -> None:
    """Raise unless ``tools/train.py`` understands what comes behind it, and each parameter goes in once."""
    if not any(item in tail for item in ('${args}', '${args_no_hyphens}')):
        raise UserError('`command` has no ${args_no_hyphens}, so that the parameters never reach tools/train.py')
    read = _parse(_expand(tail, example))
    if read.work_dir is not None:
        raise UserError('`command` sets --work-dir, but each trial gets its own folder; leave it out')
    lost = [name for name in example if name not in read.cfg_options]
    if lost:
        raise UserError(
            f'`command` does not hand `{lost[0]}` to --cfg-options; write --cfg-options ${{args_no_hyphens}}'
        )


class _Parser(argparse.ArgumentParser):
    """The arguments of tools/train.py; errors are raised."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        add_config_arguments(self)
        self.add_argument('--resume', nargs='?', const='auto')
        self.add_argument('--amp', action='store_true')
        self.add_argument('--auto-scale-lr', action='store_true')

    def error(self, message: str) -> NoReturn:
        raise UserError(f'`command`: tools/train.py does not take it: {message}')


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read arguments as tools/train.py does.

    Raises:
        UserError: If it would refuse them.
    """
    read, unknown = _Parser().parse_known_args(arguments)
    if unknown:
        raise UserError(
            f'`command` gives tools/train.py `{unknown[0]}`, which it does not know; '
            'parameters go in by --cfg-options ${args_no_hyphens}'
        )
    return read
