"""Random windows: parts of a picture, larger than they were, or all of it, smaller, at the size that it had."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_windows(count: int, scales: tuple[float, float], generator: torch.Generator | None = None) -> Tensor:
    """Draw one window for each picture: a factor of its size, and where the window lies.

    Above 1 the window shows a part of the picture, enlarged; below 1 all of it, shrunk, with padding around it.

    Args:
        count (int): B, pictures.
        scales (tuple[float, float]): Smallest and largest factor, above 0; drawn uniformly.
        generator (torch.Generator, optional): On the CPU.

    Returns:
        Tensor: (B, 2, 3), float32: maps of positions as :func:`torch.nn.functional.affine_grid` takes them.

    Example:
        >>> random_windows(1, (2.0, 2.0))[0, :, :2]  # half of the picture in each direction
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    low, high = scales
    draws = torch.rand(count, 3, generator=generator)
    inverse = 1 / (low + (high - low) * draws[:, 0])
    windows = torch.zeros(count, 2, 3)
    windows[:, 0, 0] = windows[:, 1, 1] = inverse
    windows[:, :, 2] = (draws[:, 1:] * 2 - 1) * (1 - inverse).abs()[:, None]
    return windows


def look_through(maps: Tensor, windows: Tensor, nearest: bool = False, fill: float = 0.0) -> Tensor:
    """Maps as seen through windows, at the same size.

    Args:
        maps (Tensor): (B, X, H, W) or (B, H, W), any dtype; not float: only with ``nearest``.
        windows (Tensor): (B, 2, 3), float, from :func:`random_windows`; the same for maps of all sizes.
        nearest (bool): Whether each position takes the value of one, as labels need it; else bilinear.
        fill (float): Value outside the picture.

    Returns:
        Tensor: Like ``maps``.

    Example:
        >>> maps, window = torch.tensor([[[1, 2, 3, 4]]]), torch.tensor([[[0.5, 0, 0.5], [0, 1, 0]]])
        >>> look_through(maps, window, nearest=True)  # the right half, twice as wide
        tensor([[[3, 3, 4, 4]]])
    """
    values = maps if maps.ndim == 4 else maps[:, None]
    floats = values if values.is_floating_point() else values.float()
    grid = F.affine_grid(windows.to(floats), [len(floats), 1, *floats.shape[2:]], align_corners=False)
    mode = 'nearest' if nearest else 'bilinear'
    seen = F.grid_sample(floats - fill, grid, mode=mode, padding_mode='zeros', align_corners=False) + fill
    return seen.to(maps.dtype).view(maps.shape)
