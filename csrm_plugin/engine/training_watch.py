"""What a training shows beside the statistics of its model: how the classification loss stands, what its labels say."""

import math
from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from csrm_plugin.utils import IGNORE_INDEX


class ClassifierWatch:
    """Means of the classification loss, over the last iterations, and of the labels that it learns from, over all.

    Args:
        window (int): How many iterations the last ones are.

    Attributes:
        best_ratio (float | None): The lowest that the loss has been in terms of chance, once the window was full.
    """

    def __init__(self, window: int) -> None:
        self.best_ratio: float | None = None
        self._losses: deque[float] = deque(maxlen=window)
        self._positives: Tensor | None = None
        self._pictures = 0

    @property
    def loss(self) -> float | None:
        """Mean over the last iterations; None before the first one."""
        return sum(self._losses) / len(self._losses) if self._losses else None

    @property
    def frequencies(self) -> Tensor | None:
        """Share of the pictures seen that have each class: (C,), float, in 0..1; None where no labels came."""
        return None if self._positives is None else self._positives / self._pictures

    def update(self, loss: float, data_batch: object) -> None:
        """Take in an iteration.

        Args:
            loss (float): ``loss_c``; one that is not finite is passed over.
            data_batch (object): As the data loader gives it; without ``data_samples`` it tells nothing.
        """
        if not math.isfinite(loss):
            return
        self._losses.append(loss)
        for sample in _samples(data_batch):
            if 'gt_image_labels' in sample:
                labels = sample.gt_image_labels.multi_hot.detach().cpu().double()
                self._positives = labels if self._positives is None else self._positives + labels
                self._pictures += 1

    def note_ratio(self, ratio: float) -> None:
        """Remember the lowest ratio of loss and chance."""
        if len(self._losses) == self._losses.maxlen:
            self.best_ratio = ratio if self.best_ratio is None else min(self.best_ratio, ratio)


def labelled_share(data_batch: object) -> float | None:
    """Share of objects among the labelled pixels of a batch of label maps, in 0..1; None where there are none."""
    maps = [sample.gt_sem_seg.data for sample in _samples(data_batch) if 'gt_sem_seg' in sample]
    certain = sum(int((labels != IGNORE_INDEX).sum()) for labels in maps)
    objects = sum(int(((labels != IGNORE_INDEX) & (labels > 0)).sum()) for labels in maps)
    return objects / certain if certain else None


def as_number(value: Tensor | float) -> float:
    """A number of an iteration without its gradient."""
    return float(torch.as_tensor(value).detach())


def not_finite(losses: Mapping[str, object]) -> list[str]:
    """Names of the numbers of an iteration that are NaN or infinite."""
    return [name for name, value in losses.items() if not torch.as_tensor(value).isfinite().all()]


def _samples(data_batch) -> list:
    samples = data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None
    return list(samples) if isinstance(samples, (list, tuple)) else []
