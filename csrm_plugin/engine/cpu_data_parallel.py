"""Training in several processes on CPUs."""

from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from csrm_plugin.models.layers import use_on_cpu


# In MMEngine's own registry: its Runner asks no other for the type of a wrapper.
@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """MMEngine's wrapper for models with SyncBN, which torch has for GPUs only.

    It works on the model and not on its config, so that layers are found wherever they come from, ``sync_bn`` of the
    config included, and so that the config that a run leaves behind is good for GPUs, too.

    Args:
        module (nn.Module): The model; its SyncBN layers become :class:`CPUSyncBatchNorm` in place.
        kwargs: The parent's.
    """

    def __init__(self, module: nn.Module, **kwargs) -> None:
        use_on_cpu(module)
        super().__init__(module, **kwargs)
