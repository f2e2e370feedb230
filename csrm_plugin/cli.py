"""What the command-line tools share: arguments, and errors that fit on one line.

A tool is a parser and a ``main(args)``::

    if __name__ == '__main__':
        run_tool(main, build_parser())
"""

import argparse
import ast
import errno
import json
import logging
import os
import pickle
import re
import sys
import traceback

from mmengine.config import DictAction

from .label_sources import SOURCES
from .processes import DIE_WITH_PARENT, die_with_parent
from .utils import UserError

#: Exit status of a tool that the user stopped with Ctrl-C (128 + SIGINT, as shells have it).
INTERRUPTED = 130

_BUILD_PREFIX = re.compile(r'^(class `\w+` in [\w./\\-]+: )+')
_WORKER_PREFIX = re.compile(r'^Caught \w+ in (DataLoader worker process|pin memory thread)')


class OptionsAction(DictAction):
    """``--cfg-options KEY=VALUE ...`` as MMEngine reads it, less its surprises.

    Blanks inside a single value are kept (MMEngine drops them), a value in quotes is one string even with commas in
    it, ``{...}`` and lists of dicts are read as JSON or a Python literal, and a malformed option is a usage error.
    """

    @staticmethod
    def parse_value(text):
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

    def __call__(self, parser, namespace, values, option_string=None):
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


def add_config_arguments(parser, launcher=True):
    """Add what every tool that reads a config takes: the config, options, working directory, launcher, debug.

    Args:
        parser (argparse.ArgumentParser): Gets the arguments.
        launcher (bool): Whether the tool can run in several processes.

    Returns:
        argparse.ArgumentParser: The same parser.
    """
    parser.add_argument('config', help='config file, for example mmcfg/csrm_demo.py')
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', default={},
        help='settings that override the config: dotted keys, list elements by index (custom_hooks.0.interval=2), '
        'lists as 1,2 or "[1,2]"; unknown keys are refused')  # fmt: skip
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


def add_inference_arguments(parser):
    """Add what every tool takes that predicts pictures: scales, flip, dCRF, device, tiles, half precision, options.

    Returns:
        argparse.ArgumentParser: The same parser.
    """
    add = parser.add_argument
    add('--source', choices=list(SOURCES),
        help='what labels are made from: CAMs, the segmentation, or CAMs that the model has propagated (default: the '
        "config's)")  # fmt: skip
    add('--scales', type=float, nargs='+', metavar='S', default=[1.0],
        help='factors of the size that the config tests at (default: 1; the paper: 0.5 1 1.5 2)')  # fmt: skip
    add('--flip', action='store_true', help='see each scale mirrored as well')
    add('--threshold', type=float, metavar='T',
        help="0..1. CAMs: score of the background (default: the config's). Segmentation: pixels less certain than T "
        'become 255 (default: none)')  # fmt: skip
    add('--crf', action='store_true', help='refine with dCRF, in a pool beside the inference')
    add('--crf-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', default={},
        help='settings of DenseCRF, for example iterations=10 bilateral_sxy=50; implies --crf')  # fmt: skip
    add('--workers', type=int, metavar='N', help='processes for dCRF and files (default: cores - 1, at most 8)')
    add('--device', help='cpu, cuda, cuda:1 (default: cuda where there is one)')
    add('--tile', type=int, metavar='PIXELS', help='cut larger views into tiles (default: when out of memory)')
    add('--amp', action='store_true', help='half precision on CUDA (changes numbers slightly)')
    add('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', default={},
        help='settings that override the config')  # fmt: skip
    return add_debug_argument(parser)


def inference_settings(args):
    """The arguments of :func:`add_inference_arguments` that decide on label maps, as a dict."""
    crf = args.crf_options if args.crf or args.crf_options else None
    names = ('source', 'scales', 'flip', 'threshold')
    return {**{name: getattr(args, name) for name in names}, 'crf': crf}


def add_debug_argument(parser):
    """Add ``--debug`` to a parser that has none; :func:`run_tool` does it too."""
    if '--debug' not in parser._option_string_actions:
        parser.add_argument('--debug', action='store_true', help='show the full traceback of an error')
    return parser


def run_tool(main, parser, argv=None):
    """Parse the arguments, call ``main(args)`` and exit.

    The exit status is 0 if ``main`` returned None, what it returned if that is an int, 1 after an error and 130
    after Ctrl-C. Errors that the user can mend are one line ``error: ...`` on stderr, or a traceback with
    ``--debug``; any other error is a bug and keeps its traceback.

    Args:
        main (Callable[[argparse.Namespace], int | None]): The tool.
        parser (argparse.ArgumentParser): Its arguments; ``--debug`` is added if it is not there.
        argv (list[str], optional): Arguments instead of ``sys.argv[1:]``, for tests.

    Raises:
        SystemExit: Always.
    """
    args = add_debug_argument(parser).parse_args(argv)
    if os.environ.get(DIE_WITH_PARENT):
        die_with_parent()
    if 'LOCAL_RANK' not in os.environ and getattr(args, 'local_rank', None) is not None:
        os.environ['LOCAL_RANK'] = str(args.local_rank)
    # A log line that cannot be written (closed pipe, full disk) must not cost a traceback of its own each.
    logging.raiseExceptions = args.debug
    try:
        status = main(args)
        sys.stdout.flush()
    except BaseException as error:
        message = describe_error(error)
        if message is None:
            raise
        if isinstance(error, BrokenPipeError):
            # Otherwise the interpreter fails once more when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if args.debug:
            traceback.print_exc()
        print(_rank_prefix() + f'error: {message}', file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)
    _leave_process_group()
    sys.exit(status or 0)


def describe_error(error):
    """Say in one line what the user did or met, or give None for what looks like a bug.

    Args:
        error (BaseException): What a tool raised.

    Returns:
        str | None: One line that stands on its own.
    """
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted'
    if isinstance(error, BrokenPipeError):
        return 'the program that read the output has gone'
    if isinstance(error, UserError):
        return _one_line(_strip_host_prefix(str(error)))
    if isinstance(error, OSError):
        return _describe_os_error(error)
    text = _strip_host_prefix(str(error.args[0]) if error.args else '')
    if isinstance(error, pickle.UnpicklingError):
        what = re.search(r'GLOBAL (\S+)', text)
        return (
            f'the checkpoint is refused: it holds {what.group(1) if what else "something"} beside weights and training '
            'state, which could run code; if you trust its origin, save its state_dict alone'
        )
    if isinstance(error, KeyError) and ' is not in the ' in text and 'registry' in text:
        name, _, rest = text.partition(' is not in the ')
        place = rest.split(' registry', 1)[0]
        return f'`{name}` is no known `type` of {place}; check its spelling and `custom_imports` in the config'
    if isinstance(error, RuntimeError) and re.fullmatch(r'Failed to get \S+', text):
        return f'`{text.split()[-1]}` is no known `type`; check its spelling and `custom_imports` in the config'
    if isinstance(error, TypeError) and 'unexpected keyword argument' in text and _raised_while_building(error):
        return _one_line(f'{text}; check the spelling of that setting in the config')
    if type(error).__name__ == 'OutOfMemoryError':
        return _one_line(
            f'{text.splitlines()[0] if text else "out of memory"} Mend: a smaller train_dataloader.batch_size '
            '(or max_batch_per_process) or a smaller crop'
        )
    return None


def _raised_while_building(error):
    """Whether a call of a registered class itself failed, so that the config, not the code, gave the arguments."""
    frames = traceback.extract_tb(error.__traceback__)
    built = any(frame.name == 'build_from_cfg' for frame in frames)
    return built and frames[-1].name in ('build_from_cfg', '__init__')


def _describe_os_error(error):
    """One line for an error of the file system; None for those that have nothing to do with it."""
    name = error.filename
    place = f': {name}' if name is not None else ''
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f'no space left on the disk{place}; free some or choose another --work-dir or --out'
    known = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
    if error.errno == errno.EROFS or (isinstance(error, known) and name is not None):
        return f'{error.strerror}{place}'
    if isinstance(error, known):
        return _one_line(_strip_host_prefix(str(error))) or None
    return None


def _strip_host_prefix(text):
    """Take off what MMEngine's builders and torch's loader processes wrap around a message."""
    if _WORKER_PREFIX.match(text):
        last = text.strip().splitlines()[-1]
        text = re.sub(r'^[\w.]+: ', '', last)
    return _BUILD_PREFIX.sub('', text)


def _one_line(text):
    """Join the lines of ``text``."""
    return ' '.join(text.split())


def _rank_prefix():
    """``[rank 1] `` in the processes of a distributed run but the first, so that two lines can be told apart."""
    rank = os.environ.get('RANK', '0')
    return '' if rank == '0' else f'[rank {rank}] '


def _leave_process_group():
    """End the process group of a run that went well; torch warns otherwise.

    After an error it is left alone: leaving may wait for processes that wait for this one.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
