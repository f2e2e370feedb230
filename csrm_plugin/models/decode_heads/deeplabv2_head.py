"""The decode head of DeepLabV2."""

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn


class ParallelClassifiers(nn.ModuleList):
    """3x3 convolutions with several dilations, from the features straight to the class maps, summed.

    Args:
        in_channels (int): Channels of the feature map.
        out_channels (int): Class maps.
        dilations (Sequence[int]): Dilation of each convolution, in positions of the feature map.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Class maps (B, K, h, w), float, of a feature map (B, channels, h, w)."""
        return sum(conv(feature) for conv in self)


@MODELS.register_module()
class DeepLabV2Head(BaseDecodeHead):
    """ASPP as DeepLabV2 has it: no normalisation, no pooled branch, no layer after the sum.

    `DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs
    <https://arxiv.org/abs/1606.00915>`_ (TPAMI 2017), Section 3.2. The class maps have the resolution of the features.

    Args:
        in_channels (int): Channels of the feature map.
        num_classes (int): Number K of classes, background included.
        dilations (Sequence[int]): One branch each, in positions of the feature map; (6, 12, 18, 24) is ASPP-L.
        dropout_ratio (float): Share of the feature channels that training drops.
        init_cfg (dict, optional): Defaults to weights from a normal distribution with standard deviation 0.01 and
            biases of 0.
        kwargs: As for :class:`mmseg.models.decode_heads.decode_head.BaseDecodeHead`, but ``channels``.

    Raises:
        ValueError: If there are no dilations or one is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dilations: Sequence[int] = (6, 12, 18, 24),
        dropout_ratio: float = 0,
        init_cfg: dict | list | None = None,
        **kwargs,
    ) -> None:
        if not dilations or min(dilations) < 1:
            raise ValueError(f'`dilations` of DeepLabV2Head must be one or more integers above 0, but got {dilations}.')
        super().__init__(
            in_channels,
            channels=1,  # of the base's own classifier, which is replaced below
            num_classes=num_classes,
            dropout_ratio=dropout_ratio,
            init_cfg=init_cfg or dict(type='Normal', std=0.01, override=dict(name='conv_seg')),
            **kwargs,
        )
        # In its place, so that `cls_seg` is the base's and no parameter stays without a gradient.
        self.conv_seg = ParallelClassifiers(self.in_channels, self.out_channels, dilations)
        self.channels = self.in_channels

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Class maps (B, K, h, w), float logits, from the backbone's outputs (each (B, channels, h, w))."""
        return self.cls_seg(self._transform_inputs(inputs))
