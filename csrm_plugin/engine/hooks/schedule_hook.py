"""A number of the model that changes along a straight line."""

from functools import reduce

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.engine.hooks.warmup_hook import WarmupHook
from csrm_plugin.utils import UserError
from csrm_plugin.utils.models import unwrap


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Set one attribute of the model before each iteration, along a line from ``start`` to ``end``.

    The value depends on the iteration alone, so that it is right again after a resume.

    Args:
        attribute (str): Dotted name inside the model, as in ``alpha`` or ``loss_s2c.loss_weight``.
        end (float): Last value.
        start (float, optional): First value. Defaults to what the model was configured with.
        begin (int | str): Iteration up to which the value is ``start``; ``'warmup'`` is the end of the warm-up, the
            first iteration in which a schedule of the mutual terms has anything to say.
        until (float): Share of the training, in 0..1, at which ``end`` is reached.
        relative (bool): ``start`` and ``end`` are factors of what the model was configured with.
    """

    priority = 'VERY_HIGH'  # other hooks and the log see the value of this iteration

    def __init__(
        self,
        attribute: str,
        end: float,
        start: float | None = None,
        begin: int | str = 0,
        until: float = 1.0,
        relative: bool = False,
    ) -> None:
        if not 0 < until <= 1:
            raise UserError(f'`until` of the schedule of `{attribute}` is a share of the training, but is {until}.')
        if begin != 'warmup' and (isinstance(begin, bool) or not isinstance(begin, int) or begin < 0):
            raise UserError(
                f"`begin` of the schedule of `{attribute}` must be an iteration of at least 0, or 'warmup', but is "
                f'{begin!r}.'
            )
        self.attribute = attribute
        self.start, self.end, self.begin, self.until, self.relative = start, end, begin, until, relative

    def before_train(self, runner: Runner) -> None:
        """Remember what the model was configured with."""
        *parents, self._name = self.attribute.split('.')
        try:
            self._owner = reduce(getattr, parents, unwrap(runner.model))
            configured = None if self._owner is None else getattr(self._owner, self._name)
        except AttributeError as error:
            raise UserError(f'A ScheduleHook names `{self.attribute}`, which this model lacks ({error}).') from error
        if self._owner is None:  # a loss term that is left out
            return
        factor = configured if self.relative else 1
        start = configured if self.start is None else self.start * factor
        self._line = (start, self.end * factor)
        self._first = _end_of_warmup(self.attribute, runner) if self.begin == 'warmup' else self.begin

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the attribute."""
        if self._owner is not None:
            setattr(self._owner, self._name, self.value(runner.iter, runner.max_iters))

    def value(self, iteration: int, max_iters: int) -> float:
        """The value in iteration 0..max_iters - 1."""
        start, end = self._line
        iters = max(self.until * max_iters - self._first - 1, 1)  # the last iteration has the last value
        progress = min(max((iteration - self._first) / iters, 0.0), 1.0)
        return start + (end - start) * progress


def _end_of_warmup(attribute: str, runner: Runner) -> int:
    """From the WarmupHook itself, wherever it stands in the list of hooks."""
    for hook in runner.hooks:
        if isinstance(hook, WarmupHook):
            return hook.length(runner)
    raise UserError(
        f'The schedule of `{attribute}` begins at the end of the warm-up, but `custom_hooks` has no WarmupHook.'
    )
