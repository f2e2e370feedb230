"""Silence for a while."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from mmengine.logging import MMLogger


@contextlib.contextmanager
def quiet(*, output: bool = False) -> Iterator[None]:
    """Let only warnings of MMEngine's log through, and nothing of Python's warnings, while the block runs.

    MMEngine logs how each parameter was initialised and which file it loads, MMSegmentation warns about its own
    settings, the exporter of torch about its own code.

    Args:
        output (bool): Whether what the block prints is dropped as well.
    """
    levels = {MMLogger.get_current_instance(): logging.WARNING, logging.getLogger('torch.onnx'): logging.ERROR}
    before = {logger: logger.level for logger in levels}
    for logger, level in levels.items():
        logger.setLevel(level)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter('ignore')
            if output:
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
