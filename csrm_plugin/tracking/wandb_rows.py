"""Rows of numbers on their way to a run of W&B, which cannot rewrite what it holds."""

from typing import TYPE_CHECKING

from csrm_plugin.tracking.wandb_files import RunNote
from csrm_plugin.tracking.wandb_voice import Voice

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run


class Rows:
    """Sends what belongs to an iteration; the iteration is W&B's step and ``iteration``, the x-axis of all charts.

    Args:
        run (wandb.Run): That is open.
        voice (Voice): Says what is not sent.

    Attributes:
        held (int): The last iteration that the run held when it began; -1 for none.
        step (int): The last iteration that was sent since; -1 for none.
    """

    def __init__(self, run: 'Run', voice: Voice) -> None:
        self._run, self._voice, self._note, self._work_dir = run, voice, None, ''
        self.held, self.step = -1, -1

    def keep_note(self, note: RunNote, work_dir: str) -> None:
        """Write down in the work directory how far the run is, from now on."""
        self._note, self._work_dir = note, work_dir

    def takes(self, name: str, step: int) -> bool:
        """Whether something for this iteration can still be sent; if not, it is said.

        Args:
            name (str): What it is.
            step (int): The iteration.
        """
        if step <= self.held:
            self._voice.say(
                f'the run holds the iterations up to {self.held} already, which cannot be written again; sending goes '
                'on after them',
                'held',
            )
            return False
        if step < self.step:
            text = f'`{name}` came for iteration {step} after {self.step}; it cannot go back and is not sent'
            self._voice.say(text, name)
            return False
        return True

    def send(self, data: dict, step: int) -> None:
        """Send what belongs to an iteration; W&B makes one row of all that is sent for it."""
        self._run.log({**data, 'iteration': int(step)}, step=int(step))
        if step > self.step:
            self.step = int(step)
            if self._note is not None:
                self._note.step = max(self._note.step, self.step)
                self._note.save(self._work_dir)
