"""Say at once when a run has collapsed, and why it probably did."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.models.segmentors.wsss_segmentor import STATISTICS
from csrm_plugin.utils import UserError
from csrm_plugin.utils.models import unwrap


def diagnose(
    statistics: dict, min_covered: float = 0.05, min_foreground: float = 0.01, max_chance: float = 0.95
) -> dict[str, str]:
    """Findings about the statistics of a run.

    Args:
        statistics (dict[str, float]): Shares of pixels in 0..1, as models log them; missing ones are not judged.
        min_covered (float): Least share of pixels with a certain pseudo label, in 0..1.
        min_foreground (float): Least share of foreground among pseudo labels and predictions, in 0..1.
        max_chance (float): Highest contrastive loss in terms of that of equal similarities.

    Returns:
        dict[str, str]: For each finding its kind and one sentence with the likely cause.
    """
    findings = {}
    covered, labelled = statistics.get('reliable/s'), statistics.get('pseudo/foreground')
    predicted = statistics.get('student/foreground')
    if covered is not None and covered < min_covered:
        findings['labels cover almost nothing'] = (
            f'{covered:.1%} of the pixels have a certain pseudo label. Likely cause: `model.pseudo_label.fg_threshold` '
            'is too high, or `model.pseudo_label.bg_threshold` too low, for the CAMs of this network.'
        )
    elif labelled is not None and labelled < min_foreground:
        findings['pseudo labels are background only'] = (
            f'{labelled:.1%} of the pixels have a foreground pseudo label. Likely cause: '
            '`model.pseudo_label.fg_threshold` is too high, or the CAMs are not those of a trained classifier '
            '(`load_from`, or the length of the WarmupHook).'
        )
    elif predicted is not None and predicted < min_foreground:
        although = '' if labelled is None else f' although {labelled:.1%} are labelled so'
        findings['the segmentation predicts background only'] = (
            f'{predicted:.1%} of the pixels are predicted as foreground{although}. Likely cause: the mutual losses set '
            'in before the segmentation has learnt (lengthen the WarmupHook, in iterations), the learning rate is too '
            'high, or the score of the background where the model has one (`model.test_cfg.threshold`).'
        )
    chance = statistics.get('contrast/chance')
    if chance is not None and chance > max_chance:
        findings['the representation tells nothing apart'] = (
            f'The contrastive loss is {chance:.0%} of what equal similarities give. Likely cause: the learning rate of '
            'the representation branch (`optim_wrapper.paramwise_cfg.custom_keys.representation_head.lr_mult`) or '
            '`model.loss_m.loss_weight` is too high.'
        )
    return findings


@HOOKS.register_module()
class CollapseAlarmHook(Hook):
    """Warn in the log when labels or predictions collapse; silent otherwise.

    Judges a moving average, because a single batch may well hold no object. (Losses that are not finite stop the run
    in the model itself, see :class:`csrm_plugin.models.segmentors.NonFiniteLossError`.)

    Args:
        grace_iters (int): Iterations at the start of the training in which nothing is said: a fresh segmentation
            branch does predict background.
        window (int): Length of the moving average, in iterations.
        repeat_iters (int): A finding that lasts is repeated after so many iterations.
        min_covered (float), min_foreground (float), max_chance (float): See :func:`diagnose`.

    Attributes:
        findings (dict[str, int]): Iteration at which each kind of finding was last reported.
    """

    priority = 'LOW'

    def __init__(
        self,
        grace_iters: int = 100,
        window: int = 20,
        repeat_iters: int = 500,
        min_covered: float = 0.05,
        min_foreground: float = 0.01,
        max_chance: float = 0.95,
    ) -> None:
        if min(window, repeat_iters) < 1:
            raise UserError('`window` and `repeat_iters` of the CollapseAlarmHook must be at least 1.')
        self.grace_iters, self.window, self.repeat_iters = grace_iters, window, repeat_iters
        self.limits = dict(min_covered=min_covered, min_foreground=min_foreground, max_chance=max_chance)
        self.findings: dict[str, int] = {}
        self._means: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Warn if a run of a model that builds on a trained classifier starts without one."""
        if not getattr(unwrap(runner.model), 'starts_from_classifier', False):
            return
        if not runner.cfg.get('load_from') and not runner.cfg.get('resume'):
            runner.logger.warning(
                'No `load_from`: this run starts without a trained CAM classifier, so its first pseudo labels are '
                'noise. Train one first (mmcfg/cam_*.py or mmcfg/puzzle_*.py) and name its checkpoint.'
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update the averages and report what they show."""
        for name in STATISTICS:
            if outputs and name in outputs:
                value = float(outputs[name])
                self._means[name] = self._means.get(name, value) + (value - self._means.get(name, value)) / self.window
        if runner.iter + 1 >= self.grace_iters:
            self._report(runner, diagnose(self._means, **self.limits))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Judge the share of foreground in the validation predictions."""
        foreground = (metrics or {}).get('seg/foreground')
        if foreground is not None and runner.iter >= self.grace_iters:
            self._report(runner, diagnose({'student/foreground': foreground / 100}, **self.limits))

    def _report(self, runner: Runner, findings: dict[str, str]) -> None:
        for kind, sentence in findings.items():
            if runner.iter - self.findings.get(kind, -self.repeat_iters) >= self.repeat_iters:
                self.findings[kind] = runner.iter
                runner.logger.warning(f'COLLAPSE ALARM, iteration {runner.iter + 1}: {kind}. {sentence}')
