from types import SimpleNamespace

import pytest

from csrm_plugin.engine.hooks import WarmupHook
from csrm_plugin.utils import UserError


def factors(hook, iterations, batches=4):
    runner = SimpleNamespace(model=SimpleNamespace(), train_dataloader=range(batches))
    seen = []
    for runner.iter in iterations:
        hook.before_train_iter(runner, 0)
        seen.append(runner.model.warmup_factor)
    return seen, runner.model


def test_before_and_after_the_switch_point():
    seen, model = factors(WarmupHook(iters=3), range(6))
    assert seen == [0, 0, 0, 1, 1, 1] and model.warmup_iters == 3


def test_epochs():
    seen, model = factors(WarmupHook(epochs=1.5), range(8))
    assert seen == [0] * 6 + [1, 1] and model.warmup_iters == 6


def test_ramp():
    seen, _ = factors(WarmupHook(iters=2, ramp_iters=3), range(7))
    assert seen == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1, 1])


def test_no_warmup():
    assert factors(WarmupHook(iters=0), range(2))[0] == [1, 1]


def test_resume_behind_the_warmup():
    assert factors(WarmupHook(iters=3), [5])[0] == [1]


@pytest.mark.parametrize('options', [dict(), dict(iters=1, epochs=1)])
def test_either_iterations_or_epochs(options):
    with pytest.raises(UserError, match='either `iters` or `epochs`'):
        WarmupHook(**options)
