"""Mutual learning of two views: the terms of RML ("Representation Mutual Learning for End-to-End WSSS").

The two views are a picture and the same picture made smaller, seen by the same network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from csrm_plugin.functional.cam import relative_cam
from csrm_plugin.functional.reduction import full_precision, masked_mean
from csrm_plugin.functional.resizing import shrink


def comparable_cam(cam: Tensor, labels: Tensor) -> Tensor:
    """CAMs of present classes in 0..1, whose gradient is at most 1 per unit of the CAM.

    As :func:`csrm_plugin.functional.normalize_cam`, but for losses; see :func:`csrm_plugin.functional.relative_cam`.

    Args:
        cam (Tensor): (B, C, h, w), float, before ReLU.
        labels (Tensor): (B, C), 0/1.

    Returns:
        Tensor: (B, C, h, w), float, in 0..1.

    Example:
        >>> cam = torch.tensor([[[[4.0, -1.0]], [[0.5, 0.1]]]])
        >>> comparable_cam(cam, labels=torch.tensor([[1, 1]]))[0, :, 0]  # the second map stays weak
        tensor([[1.0000, 0.0000],
                [0.5000, 0.1000]])
    """
    return relative_cam(cam, labels).relu()


def map_distance(large: Tensor, small: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference of two views' maps, at the size of the smaller one.

    Of CAMs it is RML's equivariance term (instance level), of context maps the distance of its feature level.

    Args:
        large (Tensor): (B, X, H, W), float: of the picture.
        small (Tensor): (B, X, h, w), float: of the picture made smaller.
        mask (Tensor, optional): Broadcast to (B, X, h, w), bool: what counts, such as present classes or no padding.

    Returns:
        Tensor: Scalar; 0 where nothing counts.

    Example:
        >>> map_distance(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.2]]]]))  # the mean 0.5 against 0.2
        tensor(0.3000)
    """
    distance = (shrink(full_precision(large), tuple(small.shape[2:])) - full_precision(small)).abs()
    if mask is None:
        mask = torch.ones((), dtype=torch.bool, device=distance.device)
    return masked_mean(distance, mask.expand_as(distance))


def prototypes(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the features for each map of weights (RML, instance level).

    Args:
        features (Tensor): (B, D, h, w), float.
        weights (Tensor): (B, C, h, w), float, at least 0, such as CAMs in 0..1.

    Returns:
        Tensor: (B, C, D), float; zero where the weights are zero.

    Example:
        >>> features = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # (1, 2, 1, 2)
        >>> prototypes(features, torch.tensor([[[[3.0, 1.0]]]]))
        tensor([[[0.7500, 0.2500]]])
    """
    features, weights = full_precision(features).flatten(2), full_precision(weights).flatten(2)
    total = weights.sum(dim=2, keepdim=True)
    # Divided before the product, and zero by one: no sum overflows, no gradient is 0 times infinity.
    shares = weights / torch.where(total > 0, total, torch.ones_like(total))
    with torch.autocast(features.device.type, enabled=False):
        return shares @ features.transpose(1, 2)


def prototype_similarity(prototypes: Tensor, present: Tensor) -> Tensor:
    """Mean cosine between the prototypes of different classes, over the whole batch (RML, instance level).

    Pairs of one class count never: a prototype's cosine with itself is the constant 1 that nothing is learnt from. A
    prototype of zeros, of a class whose CAM is zero, has no direction and does not count.

    Args:
        prototypes (Tensor): (B, C, D), float.
        present (Tensor): (B, C), 0/1 or bool: which of them exist.

    Returns:
        Tensor: Scalar, in -1..1; 0 where the batch holds less than two classes.

    Example:
        >>> prototypes = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> prototype_similarity(prototypes, torch.tensor([[1, 1]]))  # the cosine of 45 degrees
        tensor(0.7071)
    """
    picture, classes = torch.nonzero((present > 0) & (prototypes != 0).any(dim=2), as_tuple=True)
    chosen = F.normalize(full_precision(prototypes)[picture, classes], dim=1)
    with torch.autocast(chosen.device.type, enabled=False):
        cosine = chosen @ chosen.T
    different = (classes[:, None] != classes[None]).triu()
    return masked_mean(cosine, different)


def spatial_kl(student: Tensor, teacher: Tensor, temperature: float = 0.05, valid: Tensor | None = None) -> Tensor:
    """Divergence of two maps' distributions over the positions: KL(teacher || student).

    RML, feature level; the mean over pictures and channels. The teacher gets no gradient.

    Args:
        student (Tensor): (B, X, h, w), float, any range.
        teacher (Tensor): Likewise.
        temperature (float): tau; what the values are divided by before the softmax over the h * w positions.
        valid (Tensor, optional): (B, h, w), bool: positions that take part. A picture without any does not count.

    Returns:
        Tensor: Scalar, in nats, at least 0.

    Example:
        >>> teacher = torch.tensor([[[[0.8, 0.2]]]]).log()
        >>> spatial_kl(torch.zeros(1, 1, 1, 2), teacher, temperature=1)  # 0.8 log(0.8 / 0.5) + 0.2 log(0.2 / 0.5)
        tensor(0.1927)
    """
    logits = [full_precision(maps).flatten(2) / temperature for maps in (student, teacher.detach())]
    counts = torch.ones(len(student), 1, 1, dtype=torch.bool, device=student.device)
    if valid is not None:
        flat = valid.flatten(1)[:, None]
        counts = flat.any(dim=2, keepdim=True)
        # -inf would make 0 * inf = NaN in the sum; this is zero after the softmax, too.
        logits = [row.masked_fill(~flat, torch.finfo(row.dtype).min / 4) for row in logits]
    log_student, log_teacher = (row.log_softmax(dim=2) for row in logits)
    values = F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(dim=2, keepdim=True)
    return masked_mean(values, counts.expand_as(values))


def mutual_spatial_kl(first: Tensor, second: Tensor, temperature: float = 0.05, valid: Tensor | None = None) -> Tensor:
    """Each view teaches the other: the sum of :func:`spatial_kl` in both directions, at the size of the second.

    Args:
        first (Tensor): (B, X, H, W), float.
        second (Tensor): (B, X, h, w), float.
        temperature (float): As in :func:`spatial_kl`.
        valid (Tensor, optional): As in :func:`spatial_kl`, at the size of the second.

    Example:
        >>> second = torch.tensor([[[[0.8, 0.2]]]]).log()
        >>> mutual_spatial_kl(torch.zeros(1, 1, 1, 2), second, temperature=1)  # 0.3 log 4
        tensor(0.4159)
    """
    first = shrink(first, tuple(second.shape[2:]))
    return spatial_kl(first, second, temperature, valid) + spatial_kl(second, first, temperature, valid)


def affinity_kl(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Divergence of two affinities, each row a distribution over the positions: KL(teacher || student), mean over rows.

    RML, pixel level. The teacher gets no gradient.

    Args:
        student (Tensor): (B, n, n), float, in 0..1.
        teacher (Tensor): Likewise.
        valid (Tensor, optional): (B, n), bool: positions that take part.

    Returns:
        Tensor: Scalar, in nats, at least 0.

    Example:
        >>> affinity_kl(torch.full((1, 2, 2), 0.5), torch.tensor([[[0.8, 0.2], [0.2, 0.8]]]))
        tensor(0.1927)
    """
    rows = [full_precision(affinity) for affinity in (student, teacher.detach())]
    kept = torch.ones(student.shape[:2], dtype=torch.bool, device=student.device) if valid is None else valid
    logs = []
    for row in rows:
        # Logarithms and their gradients stay finite where an affinity is 0.
        weights = torch.where(kept[:, None], row, row.new_zeros(())).clamp(min=1e-6)
        logs.append(weights.log() - weights.sum(dim=2, keepdim=True).log())
    values = F.kl_div(logs[0], logs[1], reduction='none', log_target=True).sum(dim=2)
    return masked_mean(values, kept)


def mutual_affinity_kl(first: Tensor, second: Tensor, valid: Tensor | None = None) -> Tensor:
    """Each view teaches the other: the sum of :func:`affinity_kl` in both directions; (B, n, n) both.

    Example:
        >>> mutual_affinity_kl(torch.full((1, 2, 2), 0.5), torch.tensor([[[0.8, 0.2], [0.2, 0.8]]]))  # 0.3 log 4
        tensor(0.4159)
    """
    return affinity_kl(first, second, valid) + affinity_kl(second, first, valid)
