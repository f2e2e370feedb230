from types import SimpleNamespace

import pytest
import torch

from csrm_plugin.engine.hooks import CollapseAlarmHook
from csrm_plugin.engine.hooks.collapse_alarm_hook import diagnose
from csrm_plugin.utils import UserError

HEALTHY = {'reliable/s': 0.5, 'pseudo/foreground': 0.2, 'student/foreground': 0.15, 'contrast/chance': 0.4}


def run(hook, *batches, start=0):
    """Warnings by iteration; each batch changes the healthy statistics."""
    warnings = {}
    runner = SimpleNamespace()
    runner.logger = SimpleNamespace(warning=lambda text: warnings.setdefault(runner.iter, []).append(text))
    for runner.iter, changes in enumerate(batches, start):
        outputs = {name: torch.tensor(value) for name, value in (HEALTHY | changes).items()}
        hook.after_train_iter(runner, 0, outputs=outputs)
    return warnings


@pytest.mark.parametrize(
    ('changes', 'finding', 'cause'),
    [
        ({'reliable/s': 0.01}, 'labels cover almost nothing', 'model.pseudo_label.fg_threshold'),
        ({'pseudo/foreground': 0.001}, 'pseudo labels are background only', 'load_from'),
        ({'student/foreground': 0.0}, 'the segmentation predicts background only', 'WarmupHook'),
        ({'contrast/chance': 0.99}, 'the representation tells nothing apart', 'representation_head.lr_mult'),
    ],
)
def test_findings_are_in_the_log_with_the_likely_cause(changes, finding, cause):
    warnings = run(CollapseAlarmHook(grace_iters=3, window=1), *[changes] * 5)
    (text,) = warnings.pop(2)
    assert 'COLLAPSE ALARM, iteration 3' in text and finding in text and cause in text
    assert warnings == {}, 'a finding that lasts is not repeated at once'


@pytest.mark.parametrize('needs_one', [True, False])
@pytest.mark.parametrize('started_from', ['load_from', 'resume', None])
def test_a_start_without_a_classifier_is_said(started_from, needs_one):
    warnings = []
    logger, model = SimpleNamespace(warning=warnings.append), SimpleNamespace(starts_from_classifier=needs_one)
    CollapseAlarmHook().before_train(SimpleNamespace(cfg={started_from: 'file.pth'}, logger=logger, model=model))
    assert len(warnings) == (started_from is None and needs_one)


def test_a_healthy_run_says_nothing():
    assert run(CollapseAlarmHook(grace_iters=0, window=5), *[{}] * 50) == {}


def test_a_single_batch_is_no_collapse():
    batches = [{}] * 10 + [{'student/foreground': 0.0, 'pseudo/foreground': 0.0}] * 2 + [{}] * 20
    assert run(CollapseAlarmHook(grace_iters=0, window=20), *batches) == {}


def test_a_lasting_finding_is_repeated_now_and_then():
    warnings = run(CollapseAlarmHook(grace_iters=0, window=1, repeat_iters=10), *[{'reliable/s': 0.0}] * 25)
    assert list(warnings) == [0, 10, 20]


def test_a_late_collapse_is_found():
    warnings = run(CollapseAlarmHook(grace_iters=5, window=4), *[{}] * 30, *[{'student/foreground': 0.0}] * 30)
    assert len(warnings) == 1 and 30 < min(warnings) < 50


def test_models_without_these_statistics():
    hook = CollapseAlarmHook(grace_iters=0)
    for outputs in (None, {}, {'loss': torch.tensor(1.0)}):
        hook.after_train_iter(SimpleNamespace(iter=0), 0, outputs=outputs)
    hook.after_val_epoch(SimpleNamespace(iter=0), metrics={'cls/mAP': 50.0})


def test_validation():
    warnings = []
    runner = SimpleNamespace(iter=200, logger=SimpleNamespace(warning=warnings.append))
    hook = CollapseAlarmHook(grace_iters=100)
    hook.after_val_epoch(runner, metrics={'seg/foreground': 20.0})
    hook.after_val_epoch(runner, metrics=None)
    assert warnings == []
    hook.after_val_epoch(runner, metrics={'seg/foreground': 0.5})
    assert 'predicts background only' in warnings[0] and '0.5%' in warnings[0]
    runner.iter = 50
    CollapseAlarmHook(grace_iters=100).after_val_epoch(runner, metrics={'seg/foreground': 0.0})
    assert len(warnings) == 1


def test_diagnosis_names_the_first_cause_only():
    """Labels that cover nothing leave no foreground either, and then nothing to learn from."""
    everything = {'reliable/s': 0.0, 'pseudo/foreground': 0.0, 'student/foreground': 0.0}
    assert list(diagnose(everything)) == ['labels cover almost nothing']
    assert diagnose(HEALTHY) == {} and diagnose({}) == {}
    assert diagnose({'reliable/s': 0.3}, min_covered=0.4)


@pytest.mark.parametrize('options', [dict(window=0), dict(repeat_iters=0)])
def test_settings(options):
    with pytest.raises(UserError, match='at least 1'):
        CollapseAlarmHook(**options)
