"""Batch normalisation over the pictures of all processes, on CPUs."""

import torch
import torch.distributed as dist
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from csrm_plugin.functional import global_sum, world_size


# The base class is that of torch's layers, which initialisers of the host look for by name.
@MODELS.register_module('CPUSyncBN')
class CPUSyncBatchNorm(_BatchNorm):
    """What ``torch.nn.SyncBatchNorm`` is on GPUs: mean and variance are those of the global batch.

    In training, every process must call the layer equally often, each with its own (N, C, ...), where N may differ and
    may be 0. The biased variance over all values of a channel normalises, the unbiased one goes into ``running_var``,
    so that parameters and buffers stay the same on every process. In evaluation mode, and with one process, it is
    ``torch.nn.BatchNorm2d`` to the last bit. Arguments, parameters and buffers are those of that layer; config type
    ``CPUSyncBN``.

    Raises:
        ValueError: If an input has fewer than two dimensions, or, in training, a channel has a single value.
    """

    def _check_input_dim(self, inputs: Tensor) -> None:
        if inputs.dim() < 2:
            raise ValueError(f'expected an input of at least 2 dimensions, but got {inputs.dim()}')

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise (N, C, ...), any floating type; the result has the shape and type of the input."""
        if not self.training or world_size() == 1:
            return super().forward(inputs)
        self._check_input_dim(inputs)
        mean, var, count = global_statistics(inputs.detach())
        if count < 2:
            raise ValueError(f'expected more than one value per channel when training, but got {tuple(inputs.shape)}')
        if self.track_running_stats:
            self._track(mean, var * (count / (count - 1)))
        return _Normalize.apply(inputs, self.weight, self.bias, mean, var, count, self.eps)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        """Let the running statistics follow those of a batch, as torch's layers do."""
        self.num_batches_tracked.add_(1)
        # Without a momentum they are the average over all batches so far.
        factor = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(var.to(self.running_var.dtype), factor)


def global_statistics(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance per channel over all values of all processes, each value counting alike.

    Args:
        values (Tensor): This process's values (N, C, ...), any floating type; N may be 0.

    Returns:
        tuple[Tensor, Tensor, float]: Mean (C,) and biased variance (C,), float32 (float64 for such values) and the same
        on every process; and the number of values in a channel.
    """
    dims = _all_but_channels(values)
    values = values.to(_precise(values))
    count = values.numel() // values.shape[1]
    if count:
        var, mean = torch.var_mean(values, dims, correction=0)
    else:
        var = mean = values.new_zeros(values.shape[1])
    # In float64: sums over parts of very different means would cost digits.
    mine = torch.cat([mean.new_tensor([count], dtype=torch.float64), mean.double(), var.double()])
    parts = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(parts, mine)
    counts, means, variances = torch.stack(parts).split([1, len(mean), len(var)], dim=1)
    total = counts.sum()
    shares = counts / total.clamp(min=1)
    mean = (shares * means).sum(dim=0)
    var = (shares * (variances + (means - mean).square())).sum(dim=0)
    return mean.to(values.dtype), var.to(values.dtype), total.item()


def use_on_cpu(model: nn.Module) -> None:
    """Turn every ``torch.nn.SyncBatchNorm`` of a model, which refuses CPUs, into a :class:`CPUSyncBatchNorm`, in place.

    The layers stay the same objects, so that whoever holds one, its parameters or its hooks, still does.
    """
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):  # SyncBN of the host is a subclass of it
            module.__class__ = CPUSyncBatchNorm


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and variance depend on the x of every process."""

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, count: float, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.count = count
        return nn.functional.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        dims, dtype = _all_but_channels(x), mean.dtype
        shape = [1, -1, *[1] * (x.dim() - 2)]
        mean, scale = mean.view(shape), scale.view(shape)
        normalized, grad = (x.to(dtype) - mean) * scale, grad.to(dtype)
        grad_bias, grad_weight = grad.sum(dims), (grad * normalized).sum(dims)
        if ctx.needs_input_grad[0]:
            # The statistics carry what the loss of every process says about them back to this one's values.
            through_mean, through_var = global_sum(torch.stack([grad_bias, grad_weight])) / ctx.count
            grad_x = grad - through_mean.view(shape) - normalized * through_var.view(shape)
            grad_x = grad_x * (scale if weight is None else scale * weight.to(dtype).view(shape))
        else:
            grad_x = None
        grad_weight, grad_bias = (
            part if needed else None for part, needed in zip((grad_weight, grad_bias), ctx.needs_input_grad[1:3])
        )
        return grad_x, grad_weight, grad_bias, None, None, None, None


def _all_but_channels(values: Tensor) -> list[int]:
    """Dimensions of (N, C, ...) less that of the channels."""
    return [dim for dim in range(values.dim()) if dim != 1]


def _precise(values: Tensor) -> torch.dtype:
    """The type in which statistics are computed: float32, or float64 where the values are."""
    return torch.promote_types(values.dtype, torch.float32)
