import optuna
import pytest

from csrm_plugin.experiments.sweep.pruner import HyperbandRule, brackets, should_stop


def test_brackets_of_the_wandb_manual():
    assert brackets(min_iter=3, limit=100) == [3, 9, 27, 81]
    assert brackets(max_iter=27, s=2) == [3, 9]
    assert brackets(min_iter=2, eta=1.5, limit=10) == [2, 3, 4, 6]
    assert brackets(max_iter=5, s=4, eta=2) == [1, 2]  # 2.5, 1.25, then below 1


@pytest.mark.parametrize(
    ('values', 'others', 'stop'),
    [
        ([10], [[1], [2]], False),  # no bracket yet
        ([10, 10], [[1, 9], [1, 8], [1, 7], [1, 6]], True),  # five runs, eta 2: two are better than 8
        ([10, 8], [[1, 9], [1, 10], [1, 7], [1, 6]], False),  # 8 is the third of five: floor(5 / 2) before it
        ([8, 10], [[1, 9], [1, 10], [1, 7], [1, 6]], False),  # its best value counts
        ([10, 10, 10, 10], [[1, 1, 1, 9], [1, 1, 1, 8], [20, 20]], True),  # the last bracket alone: 8, 9, 10
        ([10, 10, 10, 9], [[1, 1, 1, 9], [1, 1, 1, 8], [20, 20]], False),
        ([1, 1], [], False),  # the first run goes on
    ],
)
def test_rule(values, others, stop):
    assert should_stop(values, others, [2, 4], 2, maximize=False) is stop
    negated = [[-value for value in run] for run in others]
    assert should_stop([-value for value in values], negated, [2, 4], 2, maximize=True) is stop


def test_a_trial_is_compared_with_those_that_count():
    study = optuna.create_study(direction='maximize', pruner=HyperbandRule([2], 2))
    for value, outcome in ((52.0, {}), (90.0, {'why': 'killed'}), (95.0, {'why': 'void'}), (60.0, {'why': 'failed'})):
        trial = study.ask()
        trial.set_user_attr('outcome', outcome)
        for step in (100, 200):
            trial.report(value, step)
        study.tell(trial, state=optuna.trial.TrialState.FAIL if outcome else None, values=None if outcome else value)
    good, bad = study.ask(), study.ask()
    for trial, value in ((good, 50.0), (bad, 40.0)):
        trial.report(value, 100)
        assert not trial.should_prune()
        trial.report(value, 200)
    # 60, 52, 50, 40 count at two values: the third is the worst that goes on.
    assert not good.should_prune() and bad.should_prune()
