# DeepLabV3+ on the narrow ResNet-18 of the demo, from scratch.
_base_ = './cam_resnet18_demo.py'

model = dict(
    _delete_=True,
    type='EncoderDecoder',
    # height, width in pixels: the crop's
    data_preprocessor=dict(_base_.data_preprocessor, size_divisor=None, size=(96, 128)),
    backbone=_base_.model.backbone,
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=128,
        in_index=1,
        channels=64,
        dilations=(1, 2, 4, 6),
        c1_in_channels=32,
        c1_channels=24,
        dropout_ratio=0.1,
        num_classes=7,
        norm_cfg=dict(type='SyncBN'),
        align_corners=False,
        # The mean is over the labelled pixels; the host's default would count those of 255, too.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
