# DeepLabV2 (TPAMI 2017) on ResNet-101 at output stride 8, VOC's 21 classes. ImageNet weights come from $R101_WEIGHTS, a
# file or a URL; without network and file, training starts from scratch and says so.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size=(321, 321),  # height, width in pixels: the crop's
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=101,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        out_indices=(3,),
        # Frozen: batches of ten crops are too small for statistics of their own.
        norm_cfg=dict(type='SyncBN', requires_grad=False),
        norm_eval=True,
        init_cfg=dict(
            type='OptionalPretrained',
            checkpoint='{{$R101_WEIGHTS:torchvision://resnet101}}',
            hint='$R101_WEIGHTS',
        ),
    ),
    decode_head=dict(
        type='DeepLabV2Head',
        in_channels=2048,
        dilations=(6, 12, 18, 24),
        num_classes=21,
        # The mean is over the labelled pixels; the host's default would count those of 255, too.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
