"""Classification branch whose activations are the CAMs."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.utils import UserError


@MODELS.register_module()
class CAMHead(BaseModule):
    """A 1x1 convolution to one map per image class: branch C of CSRM (VISAPP 2025), Section 3.1.

    The map before pooling is the class activation map; pooled over the positions it is the class's logit (Eq. 1).

    Args:
        in_channels (int): Channels of the feature map.
        num_classes (int): Number C of image classes, without background.
        in_index (int): Which of the backbone's outputs to use.
        pooling (str): ``'avg'``, the mean over the positions, or ``'max'``, the greatest value.
        init_cfg (dict, optional): Defaults to a normal distribution with standard deviation 0.01.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        in_index: int = -1,
        pooling: str = 'avg',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type='Normal', std=0.01, override=dict(name='conv')))
        if pooling not in ('avg', 'max'):
            raise UserError(f"`model.cam_head.pooling` must be 'avg' or 'max', but is {pooling!r}.")
        self.pooling = pooling
        self.in_index = in_index
        self.num_classes = num_classes
        # Without bias: a bias would raise a class's map at every position alike.
        self.conv = nn.Conv2d(in_channels, num_classes, 1, bias=False)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """CAM (B, C, h, w), float, from the backbone's outputs (each (B, channels, h, w))."""
        feature = features[self.in_index] if isinstance(features, (tuple, list)) else features
        return self.conv(feature)

    def classify(self, cam: Tensor, valid: Tensor | None = None) -> Tensor:
        """Logits (B, C), float32, of a CAM (B, C, h, w): pooled over its positions (Eq. 1).

        With ``valid`` (B, h, w), bool, over those only, as padding is no part of the picture; each picture has some.
        """
        cam = cam.float()
        if self.pooling == 'max':
            return torch.amax(cam if valid is None else cam.masked_fill(~valid[:, None], -torch.inf), dim=(2, 3))
        if valid is None:
            return torch.mean(cam, dim=(2, 3))
        kept = cam.masked_fill(~valid[:, None], 0).sum(dim=(2, 3))
        return kept / valid.sum(dim=(1, 2))[:, None]
