"""Let the mutual terms wait until the segmentation branch knows something."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.utils import UserError
from csrm_plugin.utils.models import unwrap


@HOOKS.register_module()
class WarmupHook(Hook):
    """Set the model's ``warmup_factor``: 0 during the warm-up, then a ramp to 1 (CSRM, VISAPP 2025, Section 4).

    It also tells the model the length of the warm-up, ``warmup_iters``, from which the mean teacher counts.

    The paper's warm-up is one epoch, several hundred iterations on VOC. On a small data set an epoch is a few
    iterations, after which the teacher's segmentation is still noise: there, say it in iterations.

    Args:
        iters (int, optional): Length of the warm-up in iterations.
        epochs (float, optional): Length of the warm-up in epochs; give one of the two.
        ramp_iters (int): Iterations of the linear ramp that follows.
    """

    priority = 'VERY_HIGH'

    def __init__(self, iters: int | None = None, epochs: float | None = None, ramp_iters: int = 0) -> None:
        if (iters is None) == (epochs is None):
            raise UserError('The WarmupHook takes either `iters` or `epochs`; set the other one to None.')
        self.iters, self.epochs, self.ramp_iters = iters, epochs, ramp_iters

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set factor and length for this iteration."""
        iters = self.length(runner)
        model = unwrap(runner.model)
        model.warmup_iters = iters
        model.warmup_factor = self.factor(runner.iter, iters)

    def length(self, runner: Runner) -> int:
        """Length of the warm-up in iterations."""
        return self.iters if self.iters is not None else round(self.epochs * len(runner.train_dataloader))

    def factor(self, iteration: int, iters: int) -> float:
        """0 before ``iters``, rising to 1 within ``ramp_iters`` iterations more."""
        if iteration < iters:
            return 0.0
        return min((iteration - iters + 1) / (self.ramp_iters + 1), 1.0)
