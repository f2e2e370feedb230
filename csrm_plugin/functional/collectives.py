"""Sums and gathers over all training processes; the identity where there is only one process.

Reliability thresholds, denominators and memory-bank keys belong to the global batch, whichever process holds the
pictures (design of CSRM, Section 3.2.4: the quantile is over the whole batch).
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of training processes.

    Example:
        >>> world_size()  # without a process group
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process among the training processes.

    Example:
        >>> rank()  # without a process group
        0
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def global_sum(value: Tensor) -> Tensor:
    """Sum of ``value`` (any shape) over the processes, without gradient.

    Example:
        >>> global_sum(torch.tensor([1.0, 2.0]))  # of one process
        tensor([1., 2.])
    """
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def gather(value: Tensor) -> Tensor:
    """Concatenate ``value`` (n, ...) of all processes in rank order, without gradient; ``n`` may differ between them.

    Returns:
        Tensor: (n_0 + n_1 + ..., ...), the same on every process.

    Example:
        >>> gather(torch.tensor([3, 4]))  # of one process
        tensor([3, 4])
    """
    value = value.detach()
    if world_size() == 1:
        return value
    sizes = [torch.zeros(1, dtype=torch.long, device=value.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(value)], device=value.device))
    sizes = torch.cat(sizes).tolist()
    padded = value.new_zeros((max(sizes), *value.shape[1:]))
    padded[: len(value)] = value
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes)])


def shared_generator(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """A CPU generator in the same state on every process, seeded by a draw from rank 0's ``generator``.

    Args:
        generator (torch.Generator, optional): Where the seed is drawn from; torch's default generator if None.
        device (torch.device): A device that the process group can communicate on.

    Example:
        >>> first, second = (shared_generator(torch.Generator().manual_seed(0), torch.device('cpu')) for _ in range(2))
        >>> bool((torch.rand(3, generator=first) == torch.rand(3, generator=second)).all())
        True
    """
    seed_device = generator.device if generator is not None else 'cpu'
    seed = torch.randint(2**62, (1,), generator=generator, device=seed_device)
    if world_size() > 1:
        seed = seed.to(device)
        dist.broadcast(seed, src=0)
    return torch.Generator().manual_seed(int(seed))
