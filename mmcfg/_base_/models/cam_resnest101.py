# CAM classifier on ResNeSt-101 at output stride 16, VOC's 20 classes. ImageNet weights come from $WSSS_BACKBONE, a file
# or a URL; without network and file, training starts from scratch and says so.
num_classes = 20
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size_divisor=1,  # pad to the largest picture of the batch
)
model = dict(
    type='CAMClassifier',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='WSSSResNeSt',
        depth=101,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        init_cfg=dict(
            type='OptionalPretrained',
            checkpoint='{{$WSSS_BACKBONE:open-mmlab://resnest101}}',
            hint='$WSSS_BACKBONE',
        ),
    ),
    cam_head=dict(type='CAMHead', in_channels=2048, num_classes=num_classes),
    loss_c=dict(type='MultiLabelSoftMarginLoss'),
    test_cfg=dict(pseudo_label=dict(source='cam', threshold=0.35)),
)
