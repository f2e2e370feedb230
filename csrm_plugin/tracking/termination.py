"""Let a process that is asked to end do so in good order."""

import os
import signal
import sys
import threading
from collections.abc import Callable


def exit_on_sigterm() -> Callable[[], None]:
    """Turn SIGTERM, by which clusters and agents end a run, into ``sys.exit(143)``; by itself it ends the process cold.

    Then what still waits to be written is written. A handler that somebody else has set stays.

    Returns:
        Callable[[], None]: Takes it back.
    """
    if threading.current_thread() is not threading.main_thread():
        return _nothing
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return _nothing
    owner = os.getpid()

    def leave(number, _frame):
        if os.getpid() != owner:
            # A process that was forked from this one, such as a loader's, must just end.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        sys.exit(128 + number)

    def restore():
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, leave)
    return restore


def _nothing():
    """There is nothing to take back."""
