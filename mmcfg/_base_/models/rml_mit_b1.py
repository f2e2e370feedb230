# RML on MiT-B1 at output stride 16, VOC's 20 classes. ImageNet weights come from $MIT_B1_WEIGHTS, a file or a URL, with
# the host's names or those of SegFormer's authors; without network and file, training starts from scratch and says so.
num_classes = 20
# Pictures smaller than this crop are padded, and the losses leave the padding out.
crop_size = (320, 320)  # height, width in pixels
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=crop_size,
)
model = dict(
    type='RML',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='AttentionMixVisionTransformer',
        embed_dims=64,
        num_stages=4,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        patch_sizes=[7, 3, 3, 3],
        strides=[4, 2, 2, 1],  # SegFormer's last one is 2
        sr_ratios=[8, 4, 2, 1],
        out_indices=(0, 1, 2, 3),
        mlp_ratio=4,
        qkv_bias=True,
        drop_path_rate=0.1,
        attention_blocks=2,  # of the last stage
        norm_cfg=dict(type='LN', eps=1e-6, requires_grad=False),  # as they come from ImageNet
        init_cfg=dict(
            type='OptionalPretrained',
            checkpoint='{{$MIT_B1_WEIGHTS:https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b1_20220624-02e5a6a1.pth}}',
            hint='$MIT_B1_WEIGHTS',
        ),
    ),
    cam_head=dict(type='CAMHead', in_channels=512, num_classes=num_classes, pooling='max'),
    affinity_head=dict(type='AffinityHead', num_maps=16),  # 2 blocks of 8 heads
    context_head=dict(
        type='ContextHead',
        in_channels=[64, 128, 320, 512],
        channels=15,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    loss_c=dict(type='MultiLabelSoftMarginLoss'),
    loss_instance=dict(type='InstanceMutualLoss', similarity_weight=0.1, loss_weight=0.1),
    loss_feature=dict(type='FeatureMutualLoss', temperature=0.05, loss_weight=0.1),
    loss_pixel=dict(type='PixelMutualLoss', loss_weight=0.1),
    view_scale=0.3,  # of the second view
    radius=8,  # of affinities, in positions of the last feature map
    pseudo_label=dict(
        fg_threshold=0.55,
        bg_threshold=0.35,
        refine='par',
        par=dict(dilations=(1, 2, 4, 8, 12, 24), iterations=10),
        stride=2,  # pixels of the input per pixel of the labels
        scales=(0.5, 1.0, 1.5),  # of the CAMs that the labels are made from
        flip=True,
    ),
    test_cfg=dict(
        scales=(0.5, 1.0, 1.5),
        flip=True,
        threshold=0.35,
        power=2,
        pseudo_label=dict(source='propagated', threshold=0.35),
    ),
)
