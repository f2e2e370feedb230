# CAM classifier on MobileNetV2 at output stride 16. $MSRC_WEIGHTS names ImageNet weights; without it, from scratch.
num_classes = 15
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size_divisor=1,  # pad to the largest picture of the batch
)
backbone = dict(
    type='MobileNetV2',
    strides=(1, 2, 2, 2, 1, 1, 1),
    dilations=(1, 1, 1, 1, 1, 2, 2),
    out_indices=(1, 6),
    norm_cfg=dict(type='SyncBN'),
    norm_eval=True,
    init_cfg=dict(type='OptionalPretrained', checkpoint='{{$MSRC_WEIGHTS:none}}', hint='$MSRC_WEIGHTS'),
)
cam_head = dict(type='CAMHead', in_channels=320, num_classes=num_classes)
model = dict(
    type='CAMClassifier',
    data_preprocessor=data_preprocessor,
    backbone=backbone,
    cam_head=cam_head,
    loss_c=dict(type='MultiLabelSoftMarginLoss'),
    test_cfg=dict(pseudo_label=dict(source='cam', threshold=0.35)),
)
