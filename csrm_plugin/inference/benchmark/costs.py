"""Parameters and multiply-adds of one prediction, counted while it runs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from csrm_plugin.inference.benchmark.candidates import Candidate, around_backbone


class UsedParameters(TorchFunctionMode):
    """Notes which parameters take part in what is computed while it is active.

    Attributes:
        found (set[int]): ``id`` of each parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = set()

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call ``func``, and note the parameters among its arguments where tensors come out of it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # Questions about a parameter (its device, say) are no use of it.
        if any(isinstance(item, Tensor) for item in _flat(result)):
            self.found |= {id(item) for item in _flat((args, kwargs)) if isinstance(item, nn.Parameter)}
        return result


def _flat(value):
    """What is in nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, (tuple, list)):
        return [value]
    return [item for element in value for item in _flat(element)]


def cost_of(candidate: Candidate, inputs: Tensor) -> dict:
    """Parameters and multiply-adds of one prediction, counted while it runs.

    Multiply-adds are those of convolutions and matrix products, attention included; norm layers, activations,
    interpolation and the like, a small rest, are not counted.

    Args:
        candidate (Candidate): The network.
        inputs (Tensor): Normalised pictures (B, 3, H, W), float.

    Returns:
        dict: The row without its times, see :func:`compare_inference`.
    """
    counter, strides, inside = FlopCounterMode(display=False), [], []

    def leave(_module, seen, outputs):
        inside[-1] = counter.get_total_flops() - inside[-1]
        last = outputs[-1] if isinstance(outputs, (tuple, list)) else outputs
        strides.append(seen[0].shape[3] / last.shape[3])

    # torch's fused attention would be one step that hides its products.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with UsedParameters() as used:
            candidate.predict(inputs)
        with around_backbone(candidate, lambda *_: inside.append(counter.get_total_flops()), leave), counter:
            candidate.predict(inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    total = counter.get_total_flops()
    return dict(
        name=candidate.name,
        views=candidate.views,
        stride=2 ** round(math.log2(strides[0])) if strides else None,  # powers of 2; sizes are rounded up
        parameters=count_parameters(candidate.model, used.found),
        # The counter counts a multiplication and an addition as two.
        multiply_adds=total // 2,
        rest_multiply_adds=(total - sum(inside)) // 2,
    )


def count_parameters(model: nn.Module, used: set[int]) -> dict:
    """Count parameters in all and by part.

    Args:
        model (nn.Module): Its children are the parts; a child with a backbone (a student, a teacher) counts by its own.
        used (set[int]): ``id`` of the parameters that a prediction uses.

    Returns:
        dict: ``total``, ``used``, and ``parts``: name to a dict of both.
    """
    parts = {}
    for name, child in model.named_children():
        nested = child.named_children() if hasattr(child, 'backbone') else ()
        parts.update({f'{name}.{inner}': part for inner, part in nested} or {name: child})
    counted = {
        name: dict(
            total=sum(parameter.numel() for parameter in part.parameters()),
            used=sum(parameter.numel() for parameter in part.parameters() if id(parameter) in used),
        )
        for name, part in parts.items()
    }
    whole = list(model.parameters())
    return dict(
        total=sum(parameter.numel() for parameter in whole),
        used=sum(parameter.numel() for parameter in whole if id(parameter) in used),
        parts={name: part for name, part in counted.items() if part['total']},
    )
