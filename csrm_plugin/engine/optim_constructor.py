"""Which parameters the optimiser gets."""

from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor without the modules that are frozen as a whole, such as a mean teacher.

    The host's own would hand them to the optimiser and warn about each single parameter.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Collect the parameters of ``module`` and its children; see the parent."""
        if any(parameter.requires_grad for parameter in module.parameters()):
            super().add_params(params, module, prefix, **kwargs)
