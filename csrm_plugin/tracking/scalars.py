"""Rows of numbers on their way to a tracker."""

import numbers

import numpy as np
import torch

#: What MMEngine measures in training and in validation under the same names.
TIMES = ('time', 'data_time', 'memory')


def own_times(row: dict) -> dict:
    """Give the times of a validation names of their own, ``val/time`` and so on.

    MMEngine logs the end of an epoch and the validation after it at the same iteration, with seconds per iteration
    under the same name in both. Trackers keep one number per name and iteration, so one of them would be lost.

    Args:
        row (dict): What MMEngine's logger gives; only rows of training have ``iter``.
    """
    if 'iter' in row:
        return row
    return {f'val/{key}' if key in TIMES else key: value for key, value in row.items()}


def as_number(value: object) -> float | int | bool | None:
    """A number, or an array or tensor with a single element, as a plain number; None for anything else."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        value = value.item() if (value.numel() if isinstance(value, torch.Tensor) else value.size) == 1 else None
    return value if isinstance(value, numbers.Real) else None
