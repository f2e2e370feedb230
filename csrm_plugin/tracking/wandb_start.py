"""Starting W&B's client: quietly, offline where the server does not want us, or not at all."""

import contextlib
import os
import os.path as osp
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from mmengine.logging import print_log

from csrm_plugin.tracking.wandb_files import RunNote
from csrm_plugin.tracking.wandb_voice import Voice, first_line, shown_path

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run


def import_client() -> ModuleType | None:
    """The client, or None where it is not installed, which the log says."""
    # W&B's reports about its own errors need the network, and complain on the terminal where they find none.
    os.environ.setdefault('WANDB_ERROR_REPORTING', 'false')
    try:
        import wandb

        wandb.Settings  # noqa: B018  (a folder named wandb can be imported as well)
    except (ImportError, AttributeError):
        print_log('W&B is not installed (`pip install wandb`), so that this run is not tracked by it.', 'current')
        return None
    return wandb


def open_run(
    wandb: ModuleType, arguments: Callable[[str], dict], mode: str, reason: str | None, voice: Voice
) -> tuple['Run | None', str, str | None]:
    """Start a run, offline if the server does not want us.

    Args:
        wandb (ModuleType): The client.
        arguments (Callable[[str], dict]): Gives the arguments of `wandb.init` for a mode.
        mode (str): ``online`` or ``offline``.
        reason (str, optional): Why it is offline.
        voice (Voice): Says it where there is no run at all.

    Returns:
        tuple: The run or None, and mode and reason as they are in the end.
    """
    if os.environ.get('WANDB_SILENT') is None:
        with contextlib.suppress(Exception):
            wandb.setup(wandb.Settings(silent=True))
    run = None
    if mode == 'online':
        try:
            run = _init(wandb, arguments(mode))
        except Exception as error:
            mode, reason = 'offline', f'the server did not take it ({first_line(error)})'
    if run is None:
        with voice.guard('this run is not tracked'):
            run = _init(wandb, arguments(mode))
    return run, mode, reason


def tell_where(run: 'Run', mode: str, reason: str | None, note: RunNote | None, work_dir: str) -> None:
    """One line on where the run is, and what sends it later if it is offline.

    Args:
        run (wandb.Run): The run.
        mode (str): ``online`` or ``offline``.
        reason (str, optional): Why it is offline.
        note (RunNote, optional): Names the earlier parts that are to be sent first.
        work_dir (str): Of the training.
    """
    if mode == 'online':
        print_log(f'W&B: run {run.name} at {run.url}', 'current')
        return
    folder = osp.dirname(run.dir)
    parts = [folder]
    if note is not None:
        parts = [part for part in note.not_sent(work_dir) if not osp.samefile(part, folder)] + parts
    command = ' '.join(['wandb sync', *map(shown_path, parts)])
    print_log(f'W&B: {reason}, so the run is kept in {shown_path(folder)}; `{command}` sends it later.', 'current')


def _init(wandb, arguments):
    os.makedirs(arguments['dir'], exist_ok=True)
    return wandb.init(**arguments)
