"""What the W&B backend says in the log: each thing once, in one line, and never at the cost of a training."""

import contextlib
import logging
import os.path as osp
from collections.abc import Iterator

from mmengine.logging import print_log


class Voice:
    """Says things in the log, each once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, text: str, key: str, level: int = logging.INFO) -> None:
        """Say something, unless something was said under the same key before.

        Args:
            text (str): Without the full stop.
            key (str): What it is about.
            level (int): Of the log.
        """
        if key not in self._said:
            self._said.add(key)
            print_log(f'W&B: {text}.', 'current', level)

    @contextlib.contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Let no trouble within the block end a training: say it once.

        Args:
            what (str): What did not work, for the log: ``a row was not kept``.
        """
        try:
            yield
        except Exception as error:
            self.say(f'{what}: {first_line(error)}; the training goes on', what, logging.WARNING)


def first_line(error: BaseException) -> str:
    """What an error says, in at most 120 characters."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith('<')]  # some servers answer with a page
    return lines[0][:120].rstrip('.') if lines else type(error).__name__


def shown_path(path: str) -> str:
    """A path relative to the current folder, where that is shorter."""
    return min(osp.abspath(path), osp.relpath(path), key=len)
