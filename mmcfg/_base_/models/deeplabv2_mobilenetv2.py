# DeepLabV2 on MobileNetV2 at output stride 16, with narrow dilations, MSRC's 16 classes.
_base_ = './cam_mobilenetv2.py'

num_classes = 16  # with the background
model = dict(
    _delete_=True,
    type='EncoderDecoder',
    # height, width in pixels: the crop's
    data_preprocessor=dict(_base_.data_preprocessor, size_divisor=None, size=(160, 240)),
    backbone=_base_.backbone,
    decode_head=dict(
        type='DeepLabV2Head',
        in_channels=320,
        dilations=(1, 2, 4, 6),  # the map has 15 x 10 positions
        num_classes=num_classes,
        # The mean is over the labelled pixels; the host's default would count those of 255, too.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
