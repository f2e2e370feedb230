from types import SimpleNamespace

import pytest

from csrm_plugin.engine.hooks import MeanTeacherHook
from csrm_plugin.utils import UserError


def decays(iterations, accumulate=1, warmup_iters=0, **options):
    """Decay of each update of the teacher, by iteration."""
    updates = {}

    class Model:
        def __init__(self):
            self.warmup_iters = warmup_iters

        def update_teacher(self, decay):
            updates[runner.iter] = decay

    runner = SimpleNamespace(
        model=Model(), max_iters=iterations, optim_wrapper=SimpleNamespace(_accumulative_counts=accumulate)
    )
    hook = MeanTeacherHook(**options)
    for runner.iter in range(iterations):
        hook.after_train_iter(runner, 0)
    return updates


def test_equals_the_student_in_the_warmup_and_follows_afterwards():
    updates = decays(6, warmup_iters=2)
    assert updates == pytest.approx({0: 0, 1: 0, 2: 1 / 2, 3: 2 / 3, 4: 3 / 4, 5: 4 / 5})


def test_decay_is_bounded():
    updates = decays(300)
    assert updates[97] == pytest.approx(1 - 1 / 99) and updates[299] == 0.99
    assert max(decays(20, max_decay=0.7).values()) == 0.7


def test_gradient_accumulation():
    """One update of the teacher for one of the student; the host also updates in the last iteration."""
    updates = decays(11, accumulate=3, warmup_iters=3)
    assert updates == pytest.approx({2: 0, 5: 1 / 2, 8: 2 / 3, 10: 2 / 3})


@pytest.mark.parametrize('warmup_decay', [0.9, 1.0])
def test_a_teacher_that_is_no_copy_in_the_warmup_is_one_at_its_end(warmup_decay):
    updates = list(decays(6, warmup_iters=3, warmup_decay=warmup_decay).values())
    assert updates == pytest.approx([warmup_decay] * 2 + [0, 1 / 2, 2 / 3, 3 / 4])


def test_runs_before_checkpoints_are_written():
    from mmengine.hooks import CheckpointHook
    from mmengine.runner import get_priority

    assert get_priority(MeanTeacherHook.priority) < get_priority(CheckpointHook.priority)


@pytest.mark.parametrize('value', [-0.1, 1.0])
def test_decay_out_of_range(value):
    with pytest.raises(UserError, match=f'`max_decay`.*{value}'):
        MeanTeacherHook(max_decay=value)
