"""Affinity between pairs of positions: labels, loss, propagation (RML, Section "pixel level").

A map of h x w positions has n = h * w of them, row by row; an affinity (B, n, n) says in 0..1 how likely two positions
show the same class.
"""

import torch
from torch import Tensor

from csrm_plugin.functional.collectives import global_sum, world_size
from csrm_plugin.functional.reduction import full_precision
from csrm_plugin.functional.resizing import area_means
from csrm_plugin.utils import IGNORE_INDEX


def neighbourhood(size: tuple[int, int], radius: int | None = None, device: torch.device | str | None = None) -> Tensor:
    """Which pairs of positions are near each other.

    Args:
        size (tuple[int, int]): Height and width (h, w) of the map.
        radius (int, optional): Largest distance in positions, in each direction: a window of 2 * radius + 1 positions.
            None means that all pairs are near.
        device (torch.device, optional): Where the result goes.

    Returns:
        Tensor: (n, n), bool, symmetric, True on the diagonal.

    Example:
        >>> neighbourhood((1, 3), radius=1)
        tensor([[ True,  True, False],
                [ True,  True,  True],
                [False,  True,  True]])
    """
    height, width = size
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    if radius is None:
        return torch.ones(height * width, height * width, dtype=torch.bool, device=device)
    near_rows = (rows[:, None] - rows[None]).abs() <= radius
    return near_rows & ((columns[:, None] - columns[None]).abs() <= radius)


def pair_labels(labels: Tensor, radius: int | None = None) -> Tensor:
    """Turn a label map into labels of pairs.

    Args:
        labels (Tensor): (B, h, w), integer, 0 background, 255 uncertain.
        radius (int, optional): Pairs that are farther apart, see :func:`neighbourhood`, are left out.

    Returns:
        Tensor: (B, n, n), int64: 1 same class, 0 different classes, 255 uncertain, too far, or a position with itself.

    Example:
        >>> pair_labels(torch.tensor([[[0, 2, 255]]]))
        tensor([[[255,   0, 255],
                 [  0, 255, 255],
                 [255, 255, 255]]])
    """
    flat = labels.flatten(1)
    pairs = (flat[:, :, None] == flat[:, None]).long()
    certain = flat != IGNORE_INDEX
    # A position is always like itself: nothing to learn from that.
    kept = neighbourhood(tuple(labels.shape[1:]), radius, labels.device).fill_diagonal_(False)
    return pairs.masked_fill(~(certain[:, :, None] & certain[:, None] & kept), IGNORE_INDEX)


def affinity_loss(affinity: Tensor, pair_labels: Tensor) -> Tensor:
    """Half the mean of 1 - a over the pairs of one class and half the mean of a over the others (RML, pixel level).

    Both counts are those of all processes, plus one. Each process returns its share times the number of processes, as
    :func:`csrm_plugin.functional.masked_mean` does.

    Args:
        affinity (Tensor): (B, n, n), float, in 0..1.
        pair_labels (Tensor): (B, n, n), integer: 1 same class, 0 different classes; 255 does not count.

    Returns:
        Tensor: Scalar, in 0..1; 0 where no pair counts.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> affinity = torch.tensor([[[1.0, 0.8], [0.4, 1.0]]])
        >>> labels = torch.tensor([[[255, 1], [0, 255]]])
        >>> affinity_loss(affinity, labels)  # half of 0.2 / (1 + 1) and of 0.4 / (1 + 1)
        tensor(0.1500)
    """
    if affinity.shape != pair_labels.shape:
        raise ValueError(f'`affinity` is {tuple(affinity.shape)}, but `pair_labels` {tuple(pair_labels.shape)}.')
    affinity = full_precision(affinity)
    terms = []
    for wanted, distance in ((1, 1 - affinity), (0, affinity)):
        mask = pair_labels == wanted
        count = global_sum(mask.sum(dtype=affinity.dtype)) + 1
        terms.append(torch.where(mask, distance, distance.new_zeros(())).sum() * world_size() / count)
    return (terms[0] + terms[1]) / 2


def transition_matrix(affinity: Tensor, size: tuple[int, int], radius: int | None = None, power: float = 2.0) -> Tensor:
    """Rows that sum to one: near pairs' affinities to a power, divided by the sum of their row.

    Args:
        affinity (Tensor): (B, n, n), float, in 0..1.
        size (tuple[int, int]): Height and width (h, w), with h * w = n.
        radius (int, optional): See :func:`neighbourhood`.
        power (float): Makes weak affinities weaker; each value is raised to it.

    Returns:
        Tensor: (B, n, n), float32 (float64 for float64); a row without any affinity stays with itself.

    Example:
        >>> transition_matrix(torch.tensor([[[1.0, 1.0], [0.5, 1.0]]]), size=(1, 2), power=2)
        tensor([[[0.5000, 0.5000],
                 [0.2000, 0.8000]]])
    """
    if affinity.shape[1:] != (size[0] * size[1],) * 2:
        raise ValueError(f'`affinity` {tuple(affinity.shape)} does not belong to {size[0]} x {size[1]} positions.')
    near = neighbourhood(size, radius, affinity.device)
    affinity = full_precision(affinity)
    zero, tiny = affinity.new_zeros(()), torch.finfo(affinity.dtype).tiny
    # Relative to the largest of the row, whose power does not vanish.
    peak = torch.where(near, affinity, zero).amax(dim=2, keepdim=True)
    weights = torch.where(near, (affinity / peak.clamp(min=tiny)).pow(power), zero)
    total = weights.sum(dim=2, keepdim=True)
    alone = torch.eye(weights.shape[1], dtype=weights.dtype, device=weights.device)
    return torch.where(total > 0, weights / total.clamp(min=tiny), alone)


def propagate(maps: Tensor, affinity: Tensor, radius: int | None = None, power: float = 2.0, steps: int = 1) -> Tensor:
    """Let each position take the affinity-weighted mean of its neighbours: how RML turns CAMs into a segmentation.

    Args:
        maps (Tensor): (B, C, h, w), float, such as CAMs in 0..1.
        affinity (Tensor): (B, n, n), float, in 0..1.
        radius (int, optional): See :func:`neighbourhood`.
        power (float): See :func:`transition_matrix`.
        steps (int): How often; 0 changes nothing.

    Returns:
        Tensor: (B, C, h, w), float32 (float64 for float64), between the least and the largest value of each map.

    Example:
        >>> cams = torch.tensor([[[[1.0, 0.0]]]])
        >>> propagate(cams, torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]))
        tensor([[[[0.5000, 0.0000]]]])
    """
    matrix = transition_matrix(affinity, tuple(maps.shape[2:]), radius, power)
    columns = full_precision(maps).flatten(2).transpose(1, 2).to(matrix)
    with torch.autocast(matrix.device.type, enabled=False):
        for _ in range(steps):
            columns = matrix @ columns
    return columns.transpose(1, 2).reshape(maps.shape)


def resize_affinity(affinity: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Mean affinity between the areas that the positions of another map cover.

    Args:
        affinity (Tensor): (B, n, n), float.
        size (tuple[int, int]): Height and width (h, w), with h * w = n.
        new_size (tuple[int, int]): The other map's height and width, with m positions.

    Returns:
        Tensor: (B, m, m), float32 (float64 for float64).

    Example:
        >>> resize_affinity(torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]), size=(1, 2), new_size=(1, 1))
        tensor([[[0.7500]]])
    """
    affinity = full_precision(affinity)
    rows, columns = (area_means(*lengths).to(affinity) for lengths in zip(size, new_size))
    means = torch.kron(rows, columns)  # (m, n)
    with torch.autocast(affinity.device.type, enabled=False):
        return means @ (affinity @ means.T)
