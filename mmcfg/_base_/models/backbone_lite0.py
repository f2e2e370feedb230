# EfficientNet-Lite0 of timm at output stride 16, maps as wide as MobileNetV2's. $LITE0_WEIGHTS names ImageNet weights.
# They want what the other weights want here: RGB, scaled to -1..1.
lite0 = dict(
    type='TimmBackbone',
    name='tf_efficientnet_lite0',
    out_indices=(1, 4),  # 24 channels at stride 4, 320 at stride 16
    output_stride=16,
    norm_cfg=dict(type='SyncBN'),
    norm_eval=True,
    init_cfg=dict(type='OptionalPretrained', checkpoint='{{$LITE0_WEIGHTS:none}}', hint='$LITE0_WEIGHTS'),
)
