"""Draws of the contrastive term: keys for the bank, and queries, from the pixels of all processes.

Shape letters are those of :mod:`csrm_plugin.functional.contrast`.
"""

import torch
from torch import Tensor

from csrm_plugin.functional.collectives import gather, rank, world_size


def collect_keys(rep: Tensor, mask_BKhw: Tensor, limit: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keys (n, D) and classes (n,) of the masked pixels of all processes, at most ``limit`` of each class.

    A picture of 128 x 128 positions has more candidates than a bank holds. Pushing all of them would leave those of
    the last picture; a random choice among all pictures is pushed instead, in raster order.
    """
    classes, picture, row, column = mask_BKhw.transpose(0, 1).nonzero(as_tuple=True)
    if world_size() > 1:
        # Never send more than the bank can hold.
        kept = _at_most(classes, limit, torch.Generator().manual_seed(generator.initial_seed() + 1 + rank()))
        classes, picture, row, column = (index[kept] for index in (classes, picture, row, column))
        keys, classes = gather(rep[picture, :, row, column]), gather(classes)
        order = classes.argsort(stable=True)  # by class, then by process and raster: as one process would have them
        keys, classes = keys[order], classes[order]
        kept = _at_most(classes, limit, generator)
        return keys[kept], classes[kept]
    kept = _at_most(classes, limit, generator)
    return rep[picture[kept], :, row[kept], column[kept]], classes[kept]


def _at_most(classes: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    """Indices, ascending, of a random choice of at most ``limit`` entries of each class; ``classes`` (n,) ascending."""
    priority = torch.rand(len(classes), generator=generator, dtype=torch.float64).to(classes.device)
    order = (classes + priority).argsort()
    sizes = torch.bincount(classes, minlength=1)
    start = sizes.cumsum(0) - sizes
    position = torch.arange(len(classes), device=classes.device) - start[classes]
    return order[position < limit].sort().values


def draw_queries(mask_BKhw: Tensor, num_queries: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pixels of each class from the candidates of all processes, with replacement.

    Returns:
        tuple[Tensor, Tensor, Tensor]: (K, P) int64 index into the pixels (B h w) of this process; (K, P) bool, whether
        the drawn pixel is on this process; (K,) bool, whether the class has candidates anywhere.
    """
    mask_Kn = mask_BKhw.transpose(0, 1).flatten(1)
    running_Kn = mask_Kn.cumsum(dim=1, dtype=torch.int32)
    counts_RK = gather(running_Kn[None, :, -1].long())
    total_K = counts_RK.sum(dim=0)
    before_K = counts_RK[: rank()].sum(dim=0)
    uniform = torch.rand(len(mask_Kn), num_queries, generator=generator, dtype=torch.float64).to(mask_Kn.device)
    drawn_KP = (uniform * total_K[:, None]).long() - before_K[:, None]
    own_KP = (drawn_KP >= 0) & (drawn_KP < counts_RK[rank()][:, None])
    # The j-th candidate is where the running count reaches j + 1.
    pixels_KP = torch.searchsorted(running_Kn, (drawn_KP.clamp(min=0) + 1).int())
    return pixels_KP.clamp(max=mask_Kn.shape[1] - 1), own_KP, total_K > 0
