# CSRM on MobileNetV2 at output stride 16, with branches narrow enough for a CPU, MSRC's 15 classes.
_base_ = './cam_mobilenetv2.py'

branch = dict(
    in_channels=320,
    in_index=1,
    channels=64,
    dilations=(1, 3, 6, 9),
    c1_in_channels=24,
    c1_channels=24,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    align_corners=False,
)
model = dict(
    type='CSRM',
    decode_head=dict(type='DepthwiseSeparableASPPHead', num_classes=16, dropout_ratio=0.1, **branch),
    representation_head=dict(type='RepresentationHead', embed_dims=64, **branch),
    loss_s=dict(type='PseudoLabelLoss'),
    loss_s2c=dict(type='ActivationConsistencyLoss', loss_weight=1.0),
    loss_u=dict(type='SegmentationConsistencyLoss', loss_weight=1.0),
    loss_m=dict(type='PixelContrastLoss', loss_weight=1.0),
    pseudo_label=dict(fg_threshold=0.35, bg_threshold=0.05, crf=dict(workers=2)),
    test_cfg=dict(network='teacher', pseudo_label=dict(source='seg')),
    reliability=dict(alpha=0.2, sigma_s2c=0.1),
    bank_capacity=256,  # keys per class
)
