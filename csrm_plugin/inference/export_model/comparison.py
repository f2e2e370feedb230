"""How far an output may be from the network that it was made of."""

from typing import Any

from torch import Tensor

from csrm_plugin.utils import UserError

#: Largest difference to the original network: of logits in ``model.pth``, of probabilities in ``model.onnx``.
TOLERANCES = {'model.pth': 1e-5, 'model.onnx': 1e-3}


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    return float((first - second).abs().max()) if first.shape == second.shape else float('inf')


def verdict(name: str, difference: float, **context: Any) -> dict:
    """The report of an output; raises if it is too far from the original (or NaN)."""
    tolerance = TOLERANCES[name]
    if not difference <= tolerance:
        raise UserError(
            f'{name} gives other {context["compared"]} than the original network: they differ by up to '
            f'{difference:.3g}, more than {tolerance:g}. Nothing is written; a component of this model does not '
            'compute the same outside of it, or its weights are not finite.'
        )
    return dict(max_abs_diff=difference, tolerance=tolerance, **context)
