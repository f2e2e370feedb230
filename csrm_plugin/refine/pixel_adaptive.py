"""Pixel-adaptive refinement (Ru et al. 2022): pseudo labels smoothed within what has one colour, on any device."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from csrm_plugin.functional.refinement import DILATIONS, check_refinement, pixel_adaptive_refinement


class PixelAdaptiveRefinement(nn.Module):
    """Settings of :func:`csrm_plugin.functional.pixel_adaptive_refinement`, as a module without parameters.

    Args:
        dilations (Sequence[int]): Distances to the neighbours in pixels, each at least 1.
        iterations (int): At least 0.
        bandwidth (float): w1, above 0: width of the kernels in standard deviations.
        position_weight (float): w2, at least 0: weight of the kernel over distances.

    Raises:
        UserError: If a setting is out of range.
    """

    #: As captions call it.
    title = 'PAR'

    def __init__(
        self,
        dilations: Sequence[int] = DILATIONS,
        iterations: int = 10,
        bandwidth: float = 0.3,
        position_weight: float = 0.01,
    ) -> None:
        super().__init__()
        check_refinement(dilations, iterations, bandwidth, position_weight)
        self.dilations = tuple(dilations)
        self.iterations = iterations
        self.bandwidth = bandwidth
        self.position_weight = position_weight

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Refine masks (B, K, h, w) by pictures (B, 3, H, W) in 0..255, without gradients: (B, K, H, W)."""
        settings = self.dilations, self.iterations, self.bandwidth, self.position_weight
        return pixel_adaptive_refinement(images, masks, *settings)

    def refine_scores(self, images: Tensor | np.ndarray, scores: Tensor) -> Tensor:
        """Refine soft scores, each class for itself; :func:`csrm_plugin.functional.cam_pseudo_labels` asks for this.

        Args:
            images (Tensor | np.ndarray): (B, H, W, 3), uint8, RGB.
            scores (Tensor): (B, K, h, w), float, of any range.

        Returns:
            Tensor: (B, K, H, W), of the dtype and on the device of ``scores``.
        """
        channels_first = images.permute(0, 3, 1, 2) if isinstance(images, Tensor) else images.transpose(0, 3, 1, 2)
        return self(channels_first, scores)

    def extra_repr(self) -> str:
        """What a printed model shows."""
        return (
            f'dilations={self.dilations}, iterations={self.iterations}, bandwidth={self.bandwidth:g}, '
            f'position_weight={self.position_weight:g}'
        )
