"""Background scores that CAMs are cut at: those of a curve, and the one fixed beforehand."""

import math
import os.path as osp
from collections.abc import Iterable, Sequence

import numpy as np

from csrm_plugin.datasets import (
    label_folder,
)
from csrm_plugin.utils import UserError

#: Finer steps only cost memory: one matrix is kept for each.
MAX_THRESHOLDS = 1001


def parse_thresholds(thresholds: str | Iterable[float]) -> tuple[float, ...]:
    """Background scores from ``start:stop:step``, the stop included, or from numbers.

    Args:
        thresholds (str | Sequence[float]): In 0..1.

    Returns:
        tuple[float, ...]: Ascending, each once.

    Raises:
        UserError: If the text has another form or a score is out of range.

    Example:
        >>> parse_thresholds('0.1:0.3:0.1')
        (0.1, 0.2, 0.3)
    """
    values = sorted({float(value) for value in (_grid(thresholds) if isinstance(thresholds, str) else thresholds)})
    wrong = [value for value in values if not 0 <= value <= 1]
    if wrong or not values:
        raise UserError(f'--thresholds must be background scores from 0 to 1, but {wrong or "there is none"}')
    if len(values) > MAX_THRESHOLDS:
        raise UserError(f'--thresholds asks for {len(values)} scores; at most {MAX_THRESHOLDS} are evaluated')
    return tuple(values)


def _grid(text):
    try:
        start, stop, step = (float(part) for part in text.split(':'))
    except ValueError:
        start = stop = step = math.nan
    if not (0 <= start <= stop <= 1 and 0 < step < math.inf):
        raise UserError(
            f'--thresholds must be start:stop:step with 0 <= start <= stop <= 1 and step > 0, for example '
            f'0.05:0.95:0.05, but is `{text}`'
        )
    # The tolerance keeps the stop, which a sum of steps may miss by a rounding error.
    steps = (stop - start) / step + 1e-6
    if steps >= MAX_THRESHOLDS:
        raise UserError(f'--thresholds: the step of `{text}` is too fine, for at most {MAX_THRESHOLDS} are evaluated')
    return [min(round(start + index * step, 10), 1.0) for index in range(math.floor(steps) + 1)]


def fixed_threshold(
    threshold: float | None, settings: dict, grid: Sequence[float] | None, pred_dir: str
) -> tuple[float, str] | None:
    """The background score fixed beforehand, and where it is from; None without one."""
    origin = '--threshold'
    if threshold is not None and grid is None:
        raise UserError('--threshold is the fixed background score of a curve: give --thresholds start:stop:step too')
    if grid is None:
        return None
    if threshold is None:
        threshold, origin = settings['threshold'], label_folder.MANIFEST
    if threshold is None:
        return None
    number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        where = origin if origin == '--threshold' else f'`threshold` in `{osp.join(pred_dir, origin)}`'
        raise UserError(f'{where} must be a background score from 0 to 1, but is {threshold!r}')
    return float(threshold), origin
