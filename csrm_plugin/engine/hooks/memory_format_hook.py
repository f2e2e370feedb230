"""How the weights lie in memory."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.utils.models import suit_memory_format, unwrap


@HOOKS.register_module()
class MemoryFormatHook(Hook):
    """Before a training, a validation or a test, see :func:`csrm_plugin.utils.models.suit_memory_format`.

    A choice of configs, not for every model: a ResNet's training gains nothing, and on a CPU torch's
    :func:`torch.nn.functional.nll_loss` over pixels, called on its own, has no gradient for maps in this layout
    (:func:`torch.nn.functional.cross_entropy` has).
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Weights are laid out before they are initialised or loaded, which keeps the layout."""
        suit_memory_format(unwrap(runner.model))
