"""Time of what is compared, in turn, and the machine that it belongs to."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from csrm_plugin.inference.benchmark.candidates import Candidate, around_backbone


class BackboneClock:
    """Predicts with a candidate, and notes how long its backbone takes of that.

    Args:
        candidate (Candidate): The network.
        inputs (Tensor): Normalised pictures (B, 3, H, W), float.

    Attributes:
        seconds (list[float]): In the backbone, by call.
    """

    def __init__(self, candidate: Candidate, inputs: Tensor) -> None:
        self.candidate, self.inputs = candidate, inputs
        self.seconds = []

    def __call__(self) -> None:
        """Predict once."""
        self.seconds.append(0.0)
        with around_backbone(self.candidate, self._start, self._stop):
            self.candidate.predict(self.inputs)

    def _start(self, *_):
        self.started = now(self.inputs.device)

    def _stop(self, *_):
        self.seconds[-1] += now(self.inputs.device) - self.started


def now(device: torch.device | str | None = None) -> float:
    """Seconds of a monotonic clock, once the device has done its work."""
    if device is not None and torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def take_turns(
    runs: Sequence[Callable[[], object]], repeats: int, device: torch.device | None = None, warmup: int = 1
) -> list[list[float]]:
    """Time functions in turn: A B A B ...

    Args:
        runs (Sequence[Callable[[], object]]): What to time.
        repeats (int): Rounds that count.
        device (torch.device, optional): Whose work is waited for.
        warmup (int): Rounds before that do not count.

    Returns:
        list[list[float]]: Seconds, by function and round.
    """
    times = [[] for _ in runs]
    for turn in range(warmup + repeats):
        for run, own in zip(runs, times):
            start = now(device)
            run()
            if turn >= warmup:
                own.append(now(device) - start)
    return times


def summarise(times: Sequence[Sequence[float]]) -> list[dict]:
    """Median and spread, and the ratio to the first.

    Args:
        times (list[list[float]]): Seconds, as from :func:`take_turns`.

    Returns:
        list[dict]: For each function ``seconds`` and ``ratio``, both with ``median``, ``min`` and ``max``. The ratio is
        taken round by round, since the speed of a machine drifts.
    """

    def spread(values):
        return dict(median=statistics.median(values), min=min(values), max=max(values))

    return [
        dict(seconds=spread(own), ratio=spread([mine / first for mine, first in zip(own, times[0])])) for own in times
    ]


def machine(device: torch.device | str) -> dict:
    """What figures depend on: device, threads, versions."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
    return dict(device=f'{device.type} ({name})', threads=torch.get_num_threads(), torch=str(torch.__version__))
