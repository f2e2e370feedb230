"""A run of W&B that has begun: how its beginning is recorded, and how it ends."""

import os.path as osp
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from mmengine.config import Config
from mmengine.logging import print_log

from csrm_plugin.tracking.termination import exit_on_sigterm
from csrm_plugin.tracking.wandb_contents import (
    curve_chart,
    define_metrics,
    keep_checkpoint,
    record_code,
    record_config,
)
from csrm_plugin.tracking.wandb_files import RunNote
from csrm_plugin.tracking.wandb_rows import Rows
from csrm_plugin.tracking.wandb_voice import Voice, first_line, shown_path

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run


class OpenRun:
    """An open run with its rows and its note; there can be one in a process.

    SIGTERM ends the process in good order as long as it is open.

    Args:
        wandb (ModuleType): The client.
        run (wandb.Run): As `wandb.init` gave it.
        note (RunNote, optional): Of the run that goes on; one of another run counts for nothing.
        work_dir (str): Of the training.
        voice (Voice): Says what does not work.

    Attributes:
        run (wandb.Run): The run.
        rows (Rows): What is sent to it.
        note (RunNote): Its note in the work directory, from :meth:`record_start` on.
        ended (bool): Whether it is open no more.
    """

    #: The one that is open: another `wandb.init` would get the same run.
    active: 'OpenRun | None' = None

    def __init__(self, wandb: ModuleType, run: 'Run', note: RunNote | None, work_dir: str, voice: Voice) -> None:
        self.run, self.rows, self.ended = run, Rows(run, voice), False
        self.note = note if note is not None and note.id == run.id else RunNote(run.id)
        self._wandb, self._work_dir, self._voice = wandb, work_dir, voice
        self._restore: Callable[[], None] = exit_on_sigterm()
        OpenRun.active = self

    def record_start(
        self, mode: str, config: Config | None, define_metric_cfg: dict | list | None, upload_code: bool
    ) -> None:
        """Note which run it is, say what the charts' x-axis is, and record config and code.

        Args:
            mode (str): ``online`` or ``offline``.
            config (mmengine.config.Config, optional): Of the training.
            define_metric_cfg (dict | list, optional): See :func:`.wandb_contents.define_metrics`.
            upload_code (bool): Whether to keep the project's own code.
        """
        starting = (getattr(self.run, 'starting_step', 0) or 0) - 1
        self.rows.held = starting if mode == 'online' else self.note.step
        self.rows.keep_note(self.note, self._work_dir)
        self.note.add_part(osp.abspath(self._work_dir), osp.dirname(self.run.dir), mode)
        self.note.save(self._work_dir)
        define_metrics(self.run, define_metric_cfg)
        if config is not None:
            record_config(self.run, config, self._work_dir)
        if upload_code:
            with self._voice.guard('the code was not kept'):
                record_code(self.run)

    def keep_files(self, curves: Mapping[str, tuple], artifact: str | None) -> None:
        """Send charts and checkpoint, for which the client waits for its server.

        Args:
            curves (Mapping[str, tuple]): Name to arguments of :func:`.wandb_contents.curve_chart`.
            artifact (str, optional): The checkpoint to keep, one of :data:`.wandb_contents.ARTIFACTS`.
        """
        with self._voice.guard('the curves were not kept as charts'):
            for name, curve in curves.items():
                chart = curve_chart(self._wandb, name, *curve)
                self.run.log({f'{name}_chart': chart}, step=max(self.rows.step, 0))
        if artifact is not None:
            with self._voice.guard('the checkpoint was not kept'):
                keep_checkpoint(self._wandb, self.run, artifact, self._work_dir, self.rows.step)

    def finish(self, exit_code: int) -> None:
        """End the run, if it is open; what could not be sent in time stays on disk, which the log says.

        Args:
            exit_code (int): 0 for a success.
        """
        if self.ended:
            return
        OpenRun.active, self.ended = None, True
        folder = shown_path(osp.dirname(self.run.dir))
        try:
            self.run.finish(exit_code=exit_code)
            if self.note.parts:
                self.note.parts[-1]['ended'] = True
                self.note.save(self._work_dir)
        except Exception as error:
            print_log(
                f'W&B: not everything was sent ({first_line(error)}); it is kept in {folder}, and '
                f'`wandb sync --include-online {folder}` sends it later.',
                'current',
            )
        self._restore()
