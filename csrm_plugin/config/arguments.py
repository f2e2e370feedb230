"""Arguments of tools that read a config: the file, and settings that override it."""

import argparse
import ast
import json
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction

from csrm_plugin.utils.cli import add_debug_argument


class OptionsAction(DictAction):
    """``--cfg-options KEY=VALUE ...`` as MMEngine reads it, less its surprises.

    Blanks inside a single value are kept (MMEngine drops them), a value in quotes is one string even with commas in
    it, ``{...}`` and lists of dicts are read as JSON or a Python literal, and a malformed option is a usage error.
    """

    @staticmethod
    def parse_value(text: str) -> Any:
        """Turn the text right of ``=`` into a value.

        Args:
            text (str): For example ``0.3``, ``None``, ``1,2``, ``[(1,2),(3,4)]``, ``{"alpha": 0.1}`` or a path.

        Returns:
            The bool, int, float, None, str, list, tuple or dict.

        Raises:
            ValueError: If brackets do not match, or ``{...}`` is neither JSON nor a Python literal.
        """
        text = text.strip()
        if text.startswith('{') or (text[:1] in ('[', '(') and '{' in text):
            for read in (json.loads, ast.literal_eval):
                try:
                    return read(text)
                except (ValueError, SyntaxError):
                    continue
            raise ValueError(f'`{text}` is neither JSON nor a Python literal')
        quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in '\'"'
        bare = text[1:-1] if quoted else text
        if bare[:1] not in ('[', '(') and (quoted or ',' not in bare):
            return DictAction._parse_int_float_bool(bare)
        try:
            return DictAction._parse_iterable(text)
        except AssertionError as error:
            raise ValueError(f'the brackets of `{text}` do not match') from error

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Add ``values`` to the dict of options; a usage error if one is malformed."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for item in values:
            key, equals, text = item.partition('=')
            if not equals or not key:
                parser.error(f'{option_string}: `{item}` is not of the form KEY=VALUE')
            try:
                options[key] = self.parse_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        setattr(namespace, self.dest, options)


def add_config_arguments(parser: argparse.ArgumentParser, launcher: bool = True) -> argparse.ArgumentParser:
    """Add what every tool that reads a config takes: the config, options, working directory, launcher, debug.

    Args:
        parser (argparse.ArgumentParser): Gets the arguments.
        launcher (bool): Whether the tool can run in several processes.

    Returns:
        argparse.ArgumentParser: The same parser.
    """
    parser.add_argument('config', help='config file, for example mmcfg/csrm_demo.py')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        default={},
        help='settings that override the config: dotted keys, list elements by index (custom_hooks.0.interval=2), '
        'lists as 1,2 or "[1,2]"; unknown keys are refused',
    )
    parser.add_argument(
        '--work-dir', metavar='DIR', help='folder for logs and checkpoints (default: ./work_dirs/<name of the config>)'
    )
    if launcher:
        parser.add_argument(
            '--launcher',
            choices=['none', 'pytorch', 'slurm', 'mpi'],
            default='none',
            help='what started the processes; pytorch means torchrun (default: none, one process)',
        )
        parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    add_debug_argument(parser)
    return parser
