"""How the weights lie in memory."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from csrm_plugin.utils.models import suit_memory_format, unwrap


@HOOKS.register_module()
class MemoryFormatHook(Hook):
    """Before a training, a validation or a test, see :func:`csrm_plugin.utils.models.suit_memory_format`.

    Not for every model: torch's loss over pixels, :func:`torch.nn.functional.nll_loss` of (B, K, H, W), and so
    MMSegmentation's cross-entropy, has no gradient for maps in this layout on a CPU. CSRM's losses have.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Weights are laid out before they are initialised or loaded, which keeps the layout."""
        suit_memory_format(unwrap(runner.model))
