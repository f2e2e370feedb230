"""The three levels of RML's mutual learning: instances, features, pixels."""

from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin import functional as F
from csrm_plugin.utils import UserError


def _check_weights(**weights) -> None:
    for name, value in weights.items():
        if not value >= 0:
            raise UserError(f'`{name}` must be at least 0, but is {value}.')


@MODELS.register_module()
class InstanceMutualLoss(nn.Module):
    """CAMs that follow the picture's scale, and classes whose prototypes lie apart: RML, instance level.

    Args:
        similarity_weight (float): Factor of the prototypes' cosine beside the CAMs' distance.
        loss_weight (float): Factor of the sum.
    """

    def __init__(self, similarity_weight: float = 0.1, loss_weight: float = 1.0) -> None:
        super().__init__()
        _check_weights(similarity_weight=similarity_weight, loss_weight=loss_weight)
        self.similarity_weight, self.loss_weight = similarity_weight, loss_weight

    def forward(
        self, cam: Tensor, small_cam: Tensor, features: Tensor, labels: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms.

        Args:
            cam (Tensor): (B, C, H, W), float, in 0..1 (Eq. 2 of CSRM), of the picture.
            small_cam (Tensor): (B, C, h, w), likewise, of the picture made smaller.
            features (Tensor): (B, D, H, W), float: what the prototypes are means of, weighted by ``cam``.
            labels (Tensor): (B, C), 0/1: only present classes count.
            valid (Tensor, optional): (B, h, w), bool, False at padding.

        Returns:
            tuple[Tensor, dict]: Scalar; ``equivariance`` and ``prototype_cosine``, without weights and gradient.
        """
        mask = (labels > 0)[:, :, None, None]
        distance = F.map_distance(cam, small_cam, mask if valid is None else mask & valid[:, None])
        cosine = F.prototype_similarity(F.prototypes(features, cam.detach()), labels)
        loss = self.loss_weight * (distance + self.similarity_weight * cosine)
        return loss, dict(equivariance=distance.detach(), prototype_cosine=cosine.detach())


@MODELS.register_module()
class FeatureMutualLoss(nn.Module):
    """Context maps of two scales that agree, in values and in where they are high: RML, feature level.

    The divergence is multiplied by tau^2, as in distillation: a softmax that is 1 / tau times as sharp has a divergence
    that is larger by about its square, which would drown all other terms.

    Args:
        temperature (float): tau of the softmax over the positions.
        kl_weight (float): Factor of the divergence beside the distance.
        loss_weight (float): Factor of the sum.
    """

    def __init__(self, temperature: float = 0.05, kl_weight: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        _check_weights(kl_weight=kl_weight, loss_weight=loss_weight)
        if not temperature > 0:
            raise UserError(f'`temperature` must be above 0, but is {temperature}.')
        self.temperature, self.kl_weight, self.loss_weight = temperature, kl_weight, loss_weight

    def forward(
        self, context: Tensor, small_context: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms.

        Args:
            context (Tensor): (B, X, H, W), float, of the picture.
            small_context (Tensor): (B, X, h, w), float, of the picture made smaller.
            valid (Tensor, optional): (B, h, w), bool, False at padding.

        Returns:
            tuple[Tensor, dict]: Scalar; ``context_distance`` and ``context_kl`` (nats), without weights and gradient.
        """
        distance = F.map_distance(context, small_context, None if valid is None else valid[:, None])
        divergence = F.mutual_spatial_kl(context, small_context, self.temperature, valid)
        loss = self.loss_weight * (distance + self.kl_weight * self.temperature**2 * divergence)
        return loss, dict(context_distance=distance.detach(), context_kl=divergence.detach())


@MODELS.register_module()
class PixelMutualLoss(nn.Module):
    """Affinities that agree with the refined CAM labels and between two scales: RML, pixel level.

    Args:
        kl_weight (float): Factor of the divergence beside the affinity loss.
        balanced (bool): Whether pairs within an object weigh as much as pairs within the background, as in AffinityNet
            (Ahn and Kwak, CVPR 2018). RML has one mean over both, in which small objects drown: their own positions
            then have no affinity to each other, and propagation washes them out.
        loss_weight (float): Factor of the sum.
    """

    def __init__(self, kl_weight: float = 1.0, balanced: bool = False, loss_weight: float = 1.0) -> None:
        super().__init__()
        _check_weights(kl_weight=kl_weight, loss_weight=loss_weight)
        self.kl_weight, self.balanced, self.loss_weight = kl_weight, balanced, loss_weight

    def forward(
        self,
        affinity: Tensor,
        small_affinity: Tensor,
        pair_labels: Tensor,
        size: tuple[int, int],
        small_size: tuple[int, int],
        background: Tensor,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms.

        Args:
            affinity (Tensor): (B, n, n), float, in 0..1, of the picture.
            small_affinity (Tensor): (B, m, m), likewise, of the picture made smaller.
            pair_labels (Tensor): (B, n, n), integer, 0, 1 or 255, see :func:`csrm_plugin.functional.pair_labels`.
            size (tuple[int, int]): Height and width of the picture's map, with n positions.
            small_size (tuple[int, int]): Those of the smaller one's, with m.
            background (Tensor): (B, n), bool: positions whose label is the background.
            valid (Tensor, optional): (B, m), bool, False at padding.

        Returns:
            tuple[Tensor, dict]: Scalar; without weights and gradient ``affinity_distance``, ``affinity_kl`` (nats),
            and the mean affinity of pairs that are labelled alike (``affinity/same``) and differently
            (``affinity/other``).
        """
        distance = self._distance(affinity, pair_labels, background)
        shrunk = F.resize_affinity(affinity, size, small_size)
        divergence = F.mutual_affinity_kl(shrunk, small_affinity, valid)
        loss = self.loss_weight * (distance + self.kl_weight * divergence)
        terms = dict(affinity_distance=distance.detach(), affinity_kl=divergence.detach())
        for name, wanted in (('same', 1), ('other', 0)):
            terms[f'affinity/{name}'] = F.masked_mean(affinity.detach().float(), pair_labels == wanted)
        return loss, terms

    def _distance(self, affinity: Tensor, pair_labels: Tensor, background: Tensor) -> Tensor:
        if not self.balanced:
            return F.affinity_loss(affinity, pair_labels)
        within = pair_labels == 1
        halves = []
        for left_out in (background, ~background):
            # Both positions of a pair of one class are on the same side.
            labels = pair_labels.masked_fill(within & left_out[:, :, None], F.IGNORE_INDEX)
            halves.append(F.affinity_loss(affinity, labels))
        return (halves[0] + halves[1]) / 2
