# DeepLabV2 on the narrow ResNet-18 of the demo, from scratch.
_base_ = './cam_resnet18_demo.py'

model = dict(
    _delete_=True,
    type='EncoderDecoder',
    # height, width in pixels: the crop's
    data_preprocessor=dict(_base_.data_preprocessor, size_divisor=None, size=(96, 128)),
    backbone=_base_.model.backbone,
    decode_head=dict(
        type='DeepLabV2Head',
        in_channels=128,
        dilations=(1, 2, 4, 6),  # the map has 16 x 12 positions
        num_classes=7,
        # The mean is over the labelled pixels; the host's default would count those of 255, too.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
