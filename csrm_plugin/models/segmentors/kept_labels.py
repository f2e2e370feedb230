"""Pseudo labels that are made once for each picture, as long as the network that makes them stays as it is."""

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

#: Labels of some rows of a batch: (rows, pictures, where they are no padding) -> (n, h, w), int64.
Maker = Callable[[Tensor, Tensor, Tensor], Tensor]


class KeptLabels:
    """Labels by the pixels of their picture, whatever its name: a picture that was cut or changed is another one.

    Labels are made of each picture or, where ``mirrored``, of that one of the picture and its mirror image whose
    fingerprint is smaller, and turned back. So they depend on the picture alone, not on what was seen before: a
    training that was interrupted makes the same ones again.

    Args:
        mirrored (bool): Whether the labels of a mirrored picture are the mirrored labels, as those are that stand on
            both views.
    """

    def __init__(self, mirrored: bool = False) -> None:
        self.mirrored = mirrored
        self._maps: dict[tuple, bytes] = {}
        self._weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self._maps)

    def clear(self) -> None:
        """Forget all."""
        self._maps.clear()

    @torch.no_grad()
    def __call__(self, inputs: Tensor, labels: Tensor, valid: Tensor, make: Maker) -> tuple[Tensor, Tensor]:
        """Labels of a batch.

        Args:
            inputs (Tensor): (B, 3, H, W), float: normalised pictures.
            labels (Tensor): (B, C), 0/1: image-level labels.
            valid (Tensor): (B, h, w), bool, False at padding; h, w is the size of the result.
            make (Callable): Labels (n, h, w), int64, of rows (n,), int64, whose pictures (n, 3, H, W) and ``valid``
                (n, h, w) may be mirrored. Called where one or more are new.

        Returns:
            tuple[Tensor, Tensor]: Labels (B, h, w), int64, and the share, scalar, of the batch that was known before.
        """
        marks, turned = self._marks(inputs)
        size = tuple(valid.shape[1:])
        keys = [(*mark, tuple(row), *size) for mark, row in zip(marks, labels.bool().tolist())]
        new = [index for index, key in enumerate(keys) if key not in self._maps]
        if new:
            rows = torch.tensor(new, device=inputs.device)
            made = make(rows, _turn(inputs[rows], turned[rows]), _turn(valid[rows], turned[rows]))
            for index, row in zip(new, made.to(torch.uint8).cpu().numpy()):
                self._maps[keys[index]] = zlib.compress(row.tobytes(), 1)
        maps = [np.frombuffer(zlib.decompress(self._maps[key]), np.uint8).reshape(size) for key in keys]
        kept = torch.from_numpy(np.stack(maps)).to(inputs.device).long()
        known = inputs.new_tensor(1 - len(new) / len(keys))
        return _turn(kept, turned), known

    def _marks(self, inputs: Tensor) -> tuple[list[tuple], Tensor]:
        """Fingerprints of the pictures, and (B,), bool: which are taken for the mirror image of another one."""
        marks = self._fingerprints(inputs)
        turned = torch.zeros(len(inputs), dtype=torch.bool)
        if self.mirrored:
            others = self._fingerprints(inputs.flip(3))
            turned = torch.tensor([other < mark for mark, other in zip(marks, others)])
            marks = [min(pair) for pair in zip(marks, others)]
        return marks, turned.to(inputs.device)

    def _fingerprints(self, inputs: Tensor) -> list[tuple]:
        """Two numbers of 64 bits for each picture: sums of its bits, each times a number of its own."""
        bits = inputs.float().contiguous().view(torch.int32).flatten(1).long()
        if self._weights is None or self._weights.shape[1] != bits.shape[1] or self._weights.device != bits.device:
            generator = torch.Generator().manual_seed(0)
            limits = torch.iinfo(torch.int64)
            weights = torch.randint(limits.min, limits.max, (2, bits.shape[1]), generator=generator)
            self._weights = weights.to(bits.device)
        sums = torch.stack([(bits * weights).sum(dim=1) for weights in self._weights], dim=1)
        return [tuple(row) for row in sums.tolist()]


def _turn(values: Tensor, turned: Tensor) -> Tensor:
    """``values`` (B, ..., W), mirrored in the rows where ``turned`` (B,), bool, holds."""
    return torch.where(turned.view(-1, *[1] * (values.ndim - 1)), values.flip(-1), values)
