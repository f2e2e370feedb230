# CAM classifier of the demo: a narrow ResNet-18 without its last stage, output stride 8, from scratch; 6 classes.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5, 127.5, 127.5],
    std=[63.75, 63.75, 63.75],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size_divisor=1,  # pad to the largest picture of the batch
)
model = dict(
    type='CAMClassifier',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        stem_channels=32,
        base_channels=32,
        num_stages=3,
        strides=(1, 2, 1),
        dilations=(1, 1, 2),
        out_indices=(0, 2),
        norm_cfg=dict(type='SyncBN'),
    ),
    cam_head=dict(type='CAMHead', in_channels=128, num_classes=6),
    loss_c=dict(type='MultiLabelSoftMarginLoss'),
    test_cfg=dict(pseudo_label=dict(source='cam', threshold=0.35)),
)
