"""Say at once when a run has collapsed, and why it probably did."""

import math
from dataclasses import replace

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.engine.diagnosis import (
    Circumstances,
    circumstances_of,
    diagnose,
    diagnose_loss,
    diagnose_validation,
)
from csrm_plugin.engine.training_watch import ClassifierWatch, as_number, labelled_share, not_finite
from csrm_plugin.models.segmentors.wsss_segmentor import STATISTICS, NonFiniteLossError
from csrm_plugin.utils import UserError
from csrm_plugin.utils.models import unwrap

#: Scores of parts that learn after the warm-up, as an affinity, and a segmentation that is propagated by it.
LEARNT_LATE = ('affinity/AUC', 'seg/mIoU', 'seg/largest')


@HOOKS.register_module()
class CollapseAlarmHook(Hook):
    """Warn when a training learns nothing: classifiers, methods with pseudo labels, networks trained on label maps.

    It is silent otherwise. Judged are

    - the statistics that models log (:data:`csrm_plugin.models.segmentors.wsss_segmentor.STATISTICS`): labels that
      cover nothing, labels and predictions that are background only, a representation that tells nothing apart;
    - ``loss_c``, where the loss says what a constant prediction of the class frequencies costs;
    - validations: a classifier at chance, CAMs that show nothing, a segmentation of one class or no better than
      background, an affinity at chance.

    Moving averages are judged, because a single batch may well hold no object. Each kind of finding is one line of the
    log, repeated while it lasts. At the end everything is judged once more; the classification loss and the last
    validation even in a training shorter than the grace, if it was longer than the window. :attr:`alarms` is what the
    record of the run keeps; backends with a summary get their kinds.

    Losses that are not finite stop the run: those of our models before the weights are touched
    (:class:`csrm_plugin.models.segmentors.NonFiniteLossError`), those of the host's networks here, if the weights are
    no longer finite either.

    Where a run has several of these hooks, the last one registered counts: one among ``custom_hooks`` takes the place
    of that of ``default_hooks``.

    Args:
        grace_iters (int): Iterations at the start of the training in which nothing is said: a fresh segmentation
            branch does predict background. For the classification loss they count from where the learning rate last
            rose, for a statistic that appears later, as that of a term that waits for the end of a warm-up, from there.
        window (int): Length of the moving averages, in iterations.
        repeat_iters (int): A finding that lasts is repeated after so many iterations.
        min_covered (float), min_foreground (float), max_chance (float): See :func:`diagnose`.
        max_loss (float): Highest classification loss in terms of that of a constant prediction.

    Attributes:
        findings (dict[str, int]): Iteration at which each kind of finding was last reported.
        alarms (list[dict]): For each kind ``kind``, ``text``, ``first`` and ``last`` (iterations, from 1), and
            ``at_end``: whether it held at the end of the training, None before that.
    """

    priority = 'BELOW_NORMAL'  # after the logger, before the record

    def __init__(
        self,
        grace_iters: int = 100,
        window: int = 20,
        repeat_iters: int = 500,
        min_covered: float = 0.05,
        min_foreground: float = 0.01,
        max_chance: float = 0.95,
        max_loss: float = 0.95,
    ) -> None:
        if min(window, repeat_iters) < 1:
            raise UserError('`window` and `repeat_iters` of the CollapseAlarmHook must be at least 1.')
        self.grace_iters, self.window, self.repeat_iters = grace_iters, window, repeat_iters
        self.limits = dict(min_covered=min_covered, min_foreground=min_foreground, max_chance=max_chance)
        self.max_loss = max_loss
        self.findings: dict[str, int] = {}
        self.alarms: list[dict] = []
        self._means: dict[str, float] = {}
        self._first: dict[str, int] = {}  # iteration at which each statistic appeared
        self._classifier = ClassifierWatch(window)
        self._known = Circumstances()
        self._labelled: list[float] = []
        self._metrics: dict[str, float] = {}
        self._seen = 0  # iterations of this start of the run
        self._rate, self._steady = 0.0, 0  # the last learning rate, and iterations since it rose

    def before_train(self, runner: Runner) -> None:
        """Look at what is known of the run; warn if a model that builds on a trained classifier starts without one."""
        if not self._counts(runner):
            return
        self._known = circumstances_of(runner)
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
        if not self._counts(runner):
            return
        outputs = outputs or {}
        self._stop_if_broken(runner, outputs)
        for name in STATISTICS:
            if name in outputs:
                value = as_number(outputs[name])
                self._first.setdefault(name, runner.iter if self._seen else 0)
                self._means[name] = self._means.get(name, value) + (value - self._means.get(name, value)) / self.window
        if 'loss_c' in outputs:
            self._classifier.update(as_number(outputs['loss_c']), data_batch)
        if len(self._labelled) < self.window:
            share = labelled_share(data_batch)
            self._labelled += [] if share is None else [share]
        self._watch_rate(runner)
        if runner.iter + 1 >= self.grace_iters:
            known = self._means_after(runner.iter + 1, self.grace_iters)
            self._report(runner, diagnose(known, **self.limits), runner.iter + 1)
        if self._steady >= self.grace_iters:
            self._report(runner, self._judge_loss(runner), runner.iter + 1)
        else:
            self._judge_loss(runner)  # the lowest loss counts from the start

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Judge the scores of a validation."""
        self._metrics = dict(metrics or {})
        if runner.iter >= self.grace_iters and self._counts(runner):
            self._report(runner, self._judge_validation(runner), runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Judge everything once more, and say which findings hold at the end."""
        if not self._counts(runner) or self._seen < self.window:  # less is no training
            return
        found = self._judge_loss(runner) | self._judge_validation(runner)
        if runner.iter >= self.grace_iters:
            found = diagnose(self._means_after(runner.iter, self.window), **self.limits) | found
        self._report(runner, found, runner.iter, at_end=True)
        for alarm in self.alarms:
            alarm['at_end'] = alarm['kind'] in found

    def _counts(self, runner) -> bool:
        """Whether this hook is the one of its kind that speaks."""
        hooks = [hook for hook in getattr(runner, 'hooks', ()) if isinstance(hook, CollapseAlarmHook)]
        return not hooks or hooks[-1] is self

    def _means_after(self, iteration: int, count: int) -> dict[str, float]:
        """Averages of the statistics that have been there for so many iterations."""
        return {name: mean for name, mean in self._means.items() if iteration - self._first[name] >= count}

    def _watch_rate(self, runner) -> None:
        groups = getattr(getattr(runner, 'optim_wrapper', None), 'param_groups', None)
        rate = groups[0]['lr'] if groups else 0.0
        self._steady = 0 if rate > self._rate > 0 else self._steady + 1
        self._rate, self._seen = rate, self._seen + 1

    def _judge_loss(self, runner) -> dict[str, str]:
        """Findings about the classification loss; none where nobody says what chance is."""
        watch = self._classifier
        loss_c = getattr(unwrap(getattr(runner, 'model', None)), 'loss_c', None)
        if watch.frequencies is None or not hasattr(loss_c, 'chance'):
            return {}
        chance = loss_c.chance(watch.frequencies)
        ratio = watch.loss / chance if chance > 0 else math.inf
        watch.note_ratio(ratio)
        self._known = replace(self._known, loss_ratio=ratio, best_ratio=watch.best_ratio)
        return diagnose_loss(watch.loss, chance, self._known, self.max_loss)

    def _judge_validation(self, runner) -> dict[str, str]:
        """Findings about the last validation; in a warm-up, parts that wait for its end need not know anything."""
        labelled = sum(self._labelled) / len(self._labelled) if self._labelled else None
        known = replace(self._known, labelled=labelled)
        waiting = getattr(unwrap(getattr(runner, 'model', None)), 'warmup_factor', 1) == 0
        metrics = {name: value for name, value in self._metrics.items() if not (waiting and name in LEARNT_LATE)}
        return diagnose_validation(metrics, known, self.limits['min_foreground'])

    def _stop_if_broken(self, runner, outputs) -> None:
        """Stop a run of which a NaN or infinite loss has spoilt the weights; warn of one that has not."""
        names = not_finite({name: value for name, value in outputs.items() if 'loss' in name})
        if not names:
            return
        terms = ', '.join(name for name in names if name != 'loss') or 'loss'
        if all(bool(value.isfinite().all()) for value in unwrap(runner.model).parameters()):
            text = f'{terms}; the weights are whole. Likely cause: half precision, or a broken picture in this batch.'
            self._report(runner, {'the loss is not finite': text}, runner.iter + 1)
            return
        raise NonFiniteLossError(
            f'The loss is not finite ({terms}), and by now neither are the weights; the run stops at iteration '
            f'{runner.iter + 1}. Likely causes: a learning rate (`optim_wrapper.optimizer.lr`) that is too high, half '
            'precision, or a broken picture. The last checkpoint is intact.'
        )

    def _report(self, runner, findings: dict[str, str], iteration: int, at_end: bool = False) -> None:
        """Say what has been found after so many iterations, unless it was said lately."""
        for kind, sentence in findings.items():
            if not at_end and iteration - self.findings.get(kind, -self.repeat_iters) < self.repeat_iters:
                continue
            self.findings[kind] = iteration
            when = 'end of the training' if at_end else f'iteration {iteration}'
            runner.logger.warning(f'COLLAPSE ALARM, {when}: {kind}. {sentence}')
            alarm = next((alarm for alarm in self.alarms if alarm['kind'] == kind), None)
            if alarm is None:
                self.alarms.append(alarm := dict(kind=kind, first=iteration, at_end=None))
            alarm.update(text=sentence, last=iteration)
            self._tell_backends(runner)

    def _tell_backends(self, runner) -> None:
        """Put the kinds of all alarms into the summary of the backends that have one."""
        text = '; '.join(f'{alarm["kind"]} (iteration {alarm["first"]})' for alarm in self.alarms)
        visualizer = getattr(runner, 'visualizer', None)
        for backend in getattr(visualizer, '_vis_backends', {}).values():
            if hasattr(backend, 'add_summary'):
                backend.add_summary({'alarms': text})
