"""ResNeSt as its authors released it, with depth 269, at output stride 16 or 8."""

from mmseg.models.backbones import ResNeSt
from mmseg.models.backbones.resnest import Bottleneck
from mmseg.registry import MODELS
from torch import nn


@MODELS.register_module()
class WSSSResNeSt(ResNeSt):
    """The host's ResNeSt, made to fit the released weights, also when its last stages are dilated.

    `ResNeSt: Split-Attention Networks <https://arxiv.org/abs/2004.08955>`_. Four things differ from the host:

    - Depth 269, the backbone of Puzzle-CAM, P-NOC and CSRM.
    - ``stem_channels`` follows the depth: 64 for 50 layers, 128 for more. The host's default is 64 for all.
    - ``contract_dilation`` is on, so that the first block of a dilated stage keeps the dilation of the stage before.
    - A stage whose stride was replaced by dilation keeps the 3x3 average pooling of its first block, now with stride
      1. The released classifiers were trained with it; the host drops it, and their features change.

    The key names are the host's; :mod:`csrm_plugin.models.checkpoints.convert` maps the released ones to them.
    The "fast" variants of the paper, with the pooling before the convolution, are not covered.

    Args:
        depth (int): 50, 101, 152, 200 or 269 layers.
        stem_channels (int, optional): Channels after the stem. By default what the released weights of this depth
            have.
        contract_dilation (bool): Whether the first block of a dilated stage has half its dilation.
        pool_dilated_stages (bool): Whether a stage with stride 1 (but the first) pools in its first block.
        kwargs: The host's: ``strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)`` gives output stride 16; ``radix`` 2,
            ``reduction_factor`` 4 and ``avg_down_stride`` True are its defaults and the released ones.
    """

    arch_settings = {**ResNeSt.arch_settings, 269: (Bottleneck, (3, 30, 48, 8))}

    def __init__(
        self,
        depth: int,
        stem_channels: int | None = None,
        contract_dilation: bool = True,
        pool_dilated_stages: bool = True,
        **kwargs,
    ) -> None:
        if depth not in self.arch_settings:
            depths = ', '.join(str(known) for known in self.arch_settings)
            raise ValueError(f'`depth` of WSSSResNeSt must be one of {depths}, but got {depth!r}.')
        self.pool_dilated_stages = pool_dilated_stages
        if stem_channels is None:
            stem_channels = 64 if depth == 50 else 128
        super().__init__(depth=depth, stem_channels=stem_channels, contract_dilation=contract_dilation, **kwargs)

    def make_res_layer(self, **kwargs) -> nn.Sequential:
        """Make a stage; see the class for the pooling that a dilated one keeps.

        Args:
            kwargs: What the host's ``ResLayer`` takes, ``planes`` and ``stride`` among it.

        Returns:
            mmseg.models.utils.ResLayer: The blocks of the stage.
        """
        stage = super().make_res_layer(**kwargs)
        is_first_stage = kwargs['planes'] == self.base_channels
        if self.pool_dilated_stages and self.avg_down_stride and kwargs['stride'] == 1 and not is_first_stage:
            stage[0].avd_layer = nn.AvgPool2d(3, stride=1, padding=1)
            stage[0].avg_down_stride = True
        return stage
