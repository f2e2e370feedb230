"""What the command-line tools share: arguments, and errors that fit on one line.

A tool is a parser and a ``main(args)``::

    if __name__ == '__main__':
        run_tool(main, build_parser())
"""

import argparse
import errno
import logging
import os
import pickle
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from csrm_plugin.utils import UserError
from csrm_plugin.utils.devices import is_out_of_memory
from csrm_plugin.utils.processes import DIE_WITH_PARENT, die_with_parent

#: Exit status of a tool that the user stopped with Ctrl-C (128 + SIGINT, as shells have it).
INTERRUPTED = 130

_BUILD_PREFIX = re.compile(r'^(class `\w+` in [\w./\\-]+: )+')
_WORKER_PREFIX = re.compile(r'^Caught \w+ in (DataLoader worker process|pin memory thread)')


def add_debug_argument(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add ``--debug`` to a parser that has none; :func:`run_tool` does it too."""
    if '--debug' not in parser._option_string_actions:
        parser.add_argument('--debug', action='store_true', help='show the full traceback of an error')
    return parser


def run_tool(
    main: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> NoReturn:
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


def describe_error(error: BaseException) -> str | None:
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
    if is_out_of_memory(error):
        return _one_line(
            f'{text.splitlines()[0] if text else "out of memory"} Mend: a smaller train_dataloader.batch_size '
            '(or max_batch_per_process) or a smaller crop'
        )
    return None


def _raised_while_building(error: BaseException) -> bool:
    """Whether a call of a registered class itself failed, so that the config, not the code, gave the arguments."""
    frames = traceback.extract_tb(error.__traceback__)
    built = any(frame.name == 'build_from_cfg' for frame in frames)
    return built and frames[-1].name in ('build_from_cfg', '__init__')


def _describe_os_error(error: OSError) -> str:
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


def _strip_host_prefix(text: str) -> str:
    """Take off what MMEngine's builders and torch's loader processes wrap around a message."""
    if _WORKER_PREFIX.match(text):
        last = text.strip().splitlines()[-1]
        text = re.sub(r'^[\w.]+: ', '', last)
    return _BUILD_PREFIX.sub('', text)


def _one_line(text: str) -> str:
    """Join the lines of ``text``."""
    return ' '.join(text.split())


def _rank_prefix() -> str:
    """``[rank 1] `` in the processes of a distributed run but the first, so that two lines can be told apart."""
    rank = os.environ.get('RANK', '0')
    return '' if rank == '0' else f'[rank {rank}] '


def _leave_process_group() -> None:
    """End the process group of a run that went well; torch warns otherwise.

    After an error it is left alone: leaving may wait for processes that wait for this one.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
