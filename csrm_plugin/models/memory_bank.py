"""First-in first-out memory of negative keys, one ring of equal capacity for each class."""

import torch
from torch import Tensor, nn

from csrm_plugin.functional import IGNORE_INDEX
from csrm_plugin.utils import UserError


class MemoryBank(nn.Module):
    """Class-specific FIFO lists of keys, as buffers: they follow ``.to()``, checkpoints and resume.

    Section 3.2.5 of CSRM (VISAPP 2025). Every process must push the same keys (gather them first), then the bank is
    the same on every process.

    Args:
        num_classes (int): Number K of lists.
        dim (int): Length D of a key.
        capacity (int): Keys M that each list holds; the oldest make room for new ones.

    Attributes:
        features (Tensor): (K, M, D), float32. Rows at and behind ``sizes[c]`` are zero.
        sizes (Tensor): (K,), int64: keys held.
        pointers (Tensor): (K,), int64: where the next key goes.
        pushed_at (Tensor): (K, M), int64: the call of ``enqueue`` that brought the key.
        steps (Tensor): (), int64: number of calls of ``enqueue``.
    """

    #: A prediction needs none of the keys, so a checkpoint that is to predict need not hold them.
    training_only = True

    def __init__(self, num_classes: int, dim: int, capacity: int) -> None:
        super().__init__()
        if min(num_classes, dim, capacity) < 1:
            raise UserError(
                f'`num_classes`, `dim` and `capacity` must be at least 1, but are {num_classes}, {dim}, {capacity}.'
            )
        self.capacity = capacity
        self.register_buffer('features', torch.zeros(num_classes, capacity, dim))
        self.register_buffer('sizes', torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer('pointers', torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer('pushed_at', torch.zeros(num_classes, capacity, dtype=torch.long))
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, features: Tensor, classes: Tensor) -> None:
        """Push keys, in their order; of more than ``capacity`` keys of one class the last ones stay.

        Args:
            features (Tensor): (n, D), float. Stored as given, not normalised, without gradient.
            classes (Tensor): (n,), int64, 0..K-1.
        """
        num_classes, capacity, dim = self.features.shape
        if features.shape != (len(classes), dim):
            raise ValueError(f'`features` must be ({len(classes)}, {dim}), but has shape {tuple(features.shape)}.')
        if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < num_classes:
            raise ValueError(
                f'`classes` must be in 0..{num_classes - 1}, but reach from {int(classes.min())} to '
                f'{int(classes.max())}; leave out uncertain pixels ({IGNORE_INDEX}).'
            )
        self.steps += 1
        counts = torch.bincount(classes, minlength=num_classes)
        order = classes.argsort(stable=True)
        classes = classes[order]
        position = torch.arange(len(classes), device=classes.device) - (counts.cumsum(0) - counts)[classes]
        last = position >= (counts - capacity)[classes]  # no slot is written twice
        order, classes, position = order[last], classes[last], position[last]
        slots = (self.pointers[classes] + position) % capacity
        self.features[classes, slots] = features.detach().to(self.features)[order]
        self.pushed_at[classes, slots] = self.steps
        self.pointers.copy_((self.pointers + counts) % capacity)
        self.sizes.copy_((self.sizes + counts).clamp(max=capacity))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Indices (K, n), int64, into each class's keys, uniform with replacement; 0 for an empty class."""
        device = generator.device if generator is not None else 'cpu'
        uniform = torch.rand(len(self.sizes), n, generator=generator, dtype=torch.float64, device=device)
        return (uniform.to(self.sizes.device) * self.sizes[:, None]).long()

    def sample(self, class_index: int, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` keys (n, D) of one class, uniform with replacement.

        Raises:
            ValueError: If the class has no keys yet.
        """
        size = int(self.sizes[class_index])
        if size == 0:
            raise ValueError(f'The memory bank holds no keys of class {class_index} yet.')
        device = generator.device if generator is not None else 'cpu'
        index = torch.randint(size, (n,), generator=generator, device=device)
        return self.features[class_index, index.to(self.features.device)]

    def keys(self, class_index: int) -> Tensor:
        """The keys (size, D) of one class, oldest first."""
        size, pointer = int(self.sizes[class_index]), int(self.pointers[class_index])
        start = pointer - size
        return self.features[class_index, torch.arange(start, pointer, device=self.features.device) % self.capacity]

    def fill(self) -> Tensor:
        """Scalar, 0..1: share of the capacity that is in use, over all classes."""
        return self.sizes.float().mean() / self.capacity

    def age(self) -> Tensor:
        """Scalar: mean number of pushes since the held keys came in; 0 for an empty bank."""
        held = torch.arange(self.capacity, device=self.sizes.device) < self.sizes[:, None]
        ages = (self.steps - self.pushed_at).float() * held
        return ages.sum() / held.sum().clamp(min=1)
