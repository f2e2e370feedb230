"""W&B's early termination as an Optuna pruner."""

import math
from collections.abc import Sequence

import optuna

from csrm_plugin.experiments.sweep.rows import superseded


def brackets(
    min_iter: int | None = None,
    max_iter: int | None = None,
    s: int | None = None,
    eta: float = 3.0,
    limit: int = 10**9,
) -> list[int]:
    """Numbers of logged values at which runs are compared, ascending.

    Args:
        min_iter (int, optional): The first one; the others are ``min_iter * eta ** k``.
        max_iter (int, optional): In place of ``min_iter``: ``max_iter / eta ** k`` for ``k`` from 1 to ``s``.
        s (int, optional): Number of brackets, with ``max_iter``.
        eta (float): Above 1.
        limit (int): Brackets above it are left out.

    Returns:
        list[int]: Each at least 1.

    Example:
        >>> brackets(min_iter=3, limit=100), brackets(max_iter=27, s=2)
        ([3, 9, 27, 81], [3, 9])
    """
    if max_iter is not None:
        found = [max_iter / eta**k for k in range(1, s + 1)]
        return sorted({int(value + 1e-9) for value in found if value + 1e-9 >= 1})
    found, value = [], float(min_iter)
    while value <= limit:
        found.append(int(value + 1e-9))
        value *= eta
    return sorted(set(found))


def should_stop(
    values: Sequence[float], others: Sequence[Sequence[float]], stops: Sequence[int], eta: float, maximize: bool
) -> bool:
    """W&B's rule: stop a run that is not among the best ``1 / eta`` at its last bracket.

    At bracket b all runs with b logged values or more are ranked by their b-th value. The threshold is the one with
    ``floor(n / eta)`` better ones before it; a run stops if its best value so far is worse (the published engine of
    W&B, without ``strict``).

    Args:
        values (Sequence[float]): What the run has logged so far.
        others (Sequence[Sequence[float]]): What each other run has logged.
        stops (Sequence[int]): From :func:`brackets`.
        eta (float): Above 1.
        maximize (bool): Whether more is better.
    """
    passed = [stop for stop in stops if stop <= len(values)]
    if not passed:
        return False
    sign, stop = (-1.0 if maximize else 1.0), passed[-1]
    ranked = sorted(sign * run[stop - 1] for run in [values, *others] if len(run) >= stop)
    threshold = ranked[math.floor(len(ranked) / eta)]
    return min(sign * value for value in values) > threshold


class HyperbandRule(optuna.pruners.BasePruner):
    """Stops trials by :func:`should_stop`; a step of a trial is the iteration, a value counts when it was logged.

    Args:
        stops (Sequence[int]): Numbers of logged values, from :func:`brackets`.
        eta (float): Above 1.
    """

    def __init__(self, stops: Sequence[int], eta: float) -> None:
        self.stops, self.eta = stops, eta

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the trial should stop now."""
        others = [
            _values(other)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.intermediate_values and not superseded(other)
        ]
        maximize = study.direction.name == 'MAXIMIZE'
        return should_stop(_values(trial), others, self.stops, self.eta, maximize)


def _values(trial: optuna.trial.FrozenTrial) -> list[float]:
    return [value for _, value in sorted(trial.intermediate_values.items())]
