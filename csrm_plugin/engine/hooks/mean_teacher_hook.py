"""The teacher follows the student."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.engine.testing import tell_weights
from csrm_plugin.utils import UserError
from csrm_plugin.utils.models import unwrap


@HOOKS.register_module()
class MeanTeacherHook(Hook):
    """Move the teacher towards the student after each update of the weights.

    During the warm-up (the model's ``warmup_iters`` say how long it is) the teacher equals the student. After it,
    teacher = d * teacher + (1 - d) * student with d = min(1 - 1 / (t + 1), ``max_decay``), t counting updates from
    the end of the warm-up, with whose last update, t = 0, the teacher is a copy whatever it was before: branches that
    have learnt nothing would stay in the average for long. This d is the share that stays; MMEngine's averaged models
    call 1 - d momentum.

    Args:
        max_decay (float): Upper bound of d, in 0..1.
        warmup_decay (float): d during the warm-up, in 0..1: 0 makes the teacher equal to the student, 1 leaves it as
            it was loaded. A fresh segmentation branch shakes the backbone, and a teacher that is a copy of it takes
            its pseudo labels along; on a small data set they can end as background only. With 1, validations within
            the warm-up measure the student, see :class:`csrm_plugin.models.segmentors.TeacherStudent`.
    """

    priority = 'HIGH'  # before checkpoints are written

    def __init__(self, max_decay: float = 0.99, warmup_decay: float = 0.0) -> None:
        if not 0 <= max_decay < 1:
            raise UserError(f'`max_decay` of the mean teacher must be in 0..1 (1 excluded), but is {max_decay}.')
        if not 0 <= warmup_decay <= 1:
            raise UserError(f'`warmup_decay` of the mean teacher must be in 0..1, but is {warmup_decay}.')
        self.max_decay, self.warmup_decay = max_decay, warmup_decay

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update the teacher, unless this iteration only accumulated gradients."""
        accumulate = runner.optim_wrapper._accumulative_counts
        if (runner.iter + 1) % accumulate and runner.iter + 1 != runner.max_iters:
            return
        model = unwrap(runner.model)
        model.update_teacher(self.decay((runner.iter + 1 - model.warmup_iters) // accumulate))

    def before_val_epoch(self, runner: Runner) -> None:
        """Say whose weights are measured."""
        tell_weights(runner)

    def decay(self, updates: int) -> float:
        """Share of the teacher that stays, ``updates`` updates after the last one of the warm-up; below 0: in it."""
        return min(1 - 1 / (updates + 1), self.max_decay) if updates >= 0 else self.warmup_decay
