from types import SimpleNamespace

import pytest

from csrm_plugin.engine.hooks import ScheduleHook, WarmupHook
from csrm_plugin.utils import UserError


def make_runner(iteration=0, max_iters=11):
    model = SimpleNamespace(alpha=0.2, loss_s2c=SimpleNamespace(loss_weight=0.5), loss_u=None)
    return SimpleNamespace(model=model, iter=iteration, max_iters=max_iters)


def values(hook, iterations, runner=None):
    """What the model has in each iteration."""
    runner = runner or make_runner()
    hook.before_train(runner)
    seen = []
    for runner.iter in iterations:
        hook.before_train_iter(runner, 0)
        seen.append(runner.model.alpha)
    return seen


def test_from_the_configured_value_to_the_end_of_training():
    assert values(ScheduleHook('alpha', end=0.0), (0, 5, 10)) == pytest.approx([0.2, 0.1, 0.0])


def test_start_begin_and_share_of_the_training():
    # Half of the 14 iterations are 0 to 6; the last of them has the last value.
    hook = ScheduleHook('alpha', start=1.0, end=3.0, begin=2, until=0.5)
    assert values(hook, (0, 2, 3, 4, 6, 7, 13), make_runner(max_iters=14)) == pytest.approx([1, 1, 1.5, 2, 3, 3, 3])


def test_begin_without_share_takes_the_rest_of_the_training():
    hook = ScheduleHook('alpha', start=0.0, end=1.0, begin=5)
    assert values(hook, (0, 5, 6, 10)) == pytest.approx([0, 0, 0.2, 1])


@pytest.mark.parametrize('warmup', [dict(iters=5), dict(epochs=2.5)])
def test_begin_at_the_end_of_the_warmup(warmup):
    runner = make_runner()
    hook = ScheduleHook('alpha', start=0.0, end=1.0, begin='warmup')
    runner.hooks, runner.train_dataloader = [hook, WarmupHook(**warmup)], range(2)
    assert values(hook, (0, 5, 6, 10), runner) == pytest.approx([0, 0, 0.2, 1])


def test_warmup_that_is_not_there_is_missed():
    runner = make_runner()
    runner.hooks = []
    with pytest.raises(UserError, match='`alpha` begins at the end of the warm-up, but'):
        ScheduleHook('alpha', end=0.0, begin='warmup').before_train(runner)


@pytest.mark.parametrize('begin', [-1, 1.5, True, 'warm-up'])
def test_begin_is_checked(begin):
    with pytest.raises(UserError, match="`alpha` must be an iteration of at least 0, or 'warmup'"):
        ScheduleHook('alpha', end=0.0, begin=begin)


def test_relative_to_what_the_model_was_configured_with():
    assert values(ScheduleHook('alpha', end=0.5, relative=True), (0, 10)) == pytest.approx([0.2, 0.1])
    hook = ScheduleHook('alpha', start=2, end=0, relative=True)
    assert values(hook, (0, 5, 10)) == pytest.approx([0.4, 0.2, 0.0])


def test_right_again_after_a_resume():
    """The value depends on the iteration alone: a new process that starts in the middle sees the same."""
    through = values(ScheduleHook('alpha', end=0.0), range(11))
    resumed = values(ScheduleHook('alpha', end=0.0), range(7, 11), make_runner(iteration=7))
    assert resumed == through[7:]


def test_dotted_name_also_inside_a_wrapper():
    runner = make_runner()
    wrapped = runner.model
    runner.model = SimpleNamespace(module=wrapped)
    hook = ScheduleHook('loss_s2c.loss_weight', end=1.0)
    hook.before_train(runner)
    runner.iter = 5
    hook.before_train_iter(runner, 0)
    assert wrapped.loss_s2c.loss_weight == 0.75


def test_term_that_is_left_out_needs_no_schedule():
    runner, hook = make_runner(), ScheduleHook('loss_u.loss_weight', end=1.0)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert runner.model.loss_u is None


@pytest.mark.parametrize('attribute', ['alhpa', 'loss_s2c.weight', 'loss_x.loss_weight'])
def test_unknown_attribute_is_named(attribute):
    with pytest.raises(UserError, match=f'`{attribute}`, which this model lacks'):
        ScheduleHook(attribute, end=0.0).before_train(make_runner())


@pytest.mark.parametrize('until', [0, 1.5])
def test_length_is_checked(until):
    with pytest.raises(UserError, match='`until` of the schedule of `alpha`'):
        ScheduleHook('alpha', end=0.0, until=until)


def test_single_iteration():
    assert values(ScheduleHook('alpha', end=0.0), (0,), make_runner(max_iters=1)) == [0.2]
