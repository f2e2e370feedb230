"""The W&B backend, with the real client."""

import os
import signal

import pytest

from csrm_plugin.tracking import termination


def test_sigterm_of_a_fork_or_with_a_handler_is_left_alone():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    restore = termination.exit_on_sigterm()
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    with pytest.raises(SystemExit) as end:
        os.kill(os.getpid(), signal.SIGTERM)
    assert end.value.code == 143
    restore()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    own = signal.signal(signal.SIGTERM, lambda *_: None)
    handler = signal.getsignal(signal.SIGTERM)
    termination.exit_on_sigterm()()
    assert signal.getsignal(signal.SIGTERM) is handler
    signal.signal(signal.SIGTERM, own)
