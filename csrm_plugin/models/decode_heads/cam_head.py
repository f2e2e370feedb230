"""Classification branch whose activations are the CAMs."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CAMHead(BaseModule):
    """A 1x1 convolution to one map per image class: branch C of CSRM (VISAPP 2025), Section 3.1.

    The map before pooling is the class activation map; its mean over the positions is the class's logit (Eq. 1).

    Args:
        in_channels (int): Channels of the feature map.
        num_classes (int): Number C of image classes, without background.
        in_index (int): Which of the backbone's outputs to use.
        init_cfg (dict, optional): Defaults to a normal distribution with standard deviation 0.01.
    """

    def __init__(self, in_channels: int, num_classes: int, in_index: int = -1, init_cfg=None) -> None:
        super().__init__(init_cfg or dict(type='Normal', std=0.01, override=dict(name='conv')))
        self.in_index = in_index
        self.num_classes = num_classes
        # Without bias: a bias would raise a class's map at every position alike.
        self.conv = nn.Conv2d(in_channels, num_classes, 1, bias=False)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """CAM (B, C, h, w), float, from the backbone's outputs (each (B, channels, h, w))."""
        feature = features[self.in_index] if isinstance(features, (tuple, list)) else features
        return self.conv(feature)

    @staticmethod
    def classify(cam: Tensor) -> Tensor:
        """Logits (B, C), float32, of a CAM (B, C, h, w): global average pooling (Eq. 1)."""
        return torch.mean(cam.float(), dim=(2, 3))
