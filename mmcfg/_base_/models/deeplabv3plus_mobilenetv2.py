# DeepLabV3+ on MobileNetV2 at output stride 16, narrow enough for a CPU, MSRC's 16 classes.
_base_ = './cam_mobilenetv2.py'

num_classes = 16  # with the background
model = dict(
    _delete_=True,
    type='EncoderDecoder',
    # height, width in pixels: the crop's
    data_preprocessor=dict(_base_.data_preprocessor, size_divisor=None, size=(160, 240)),
    backbone=_base_.backbone,
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=320,
        in_index=1,
        channels=64,
        dilations=(1, 3, 6, 9),
        c1_in_channels=24,
        c1_channels=24,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        # The mean is over the labelled pixels; the host's default would count those of 255, too.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
