# RML on MobileNetV2 at output stride 16, MSRC's 15 classes. A small attention block gives the affinity.
_base_ = './cam_mobilenetv2.py'

model = dict(
    type='RML',
    backbone=dict(out_indices=(1, 2, 4, 6), norm_cfg=dict(type='SyncBN', requires_grad=False)),
    cam_head=dict(pooling='max'),
    affinity_head=dict(
        type='AttentionAffinityHead', in_channels=[32, 96, 320], in_index=[1, 2, 3], embed_dims=128, num_heads=8
    ),
    context_head=dict(type='ContextHead', in_channels=[24, 32, 96, 320], channels=15, norm_cfg=dict(type='SyncBN')),
    loss_instance=dict(type='InstanceMutualLoss', similarity_weight=0.1, loss_weight=0.1),
    loss_feature=dict(type='FeatureMutualLoss', temperature=0.05, loss_weight=0.1),
    loss_pixel=dict(type='PixelMutualLoss', loss_weight=0.1),
    pseudo_label=dict(fg_threshold=0.55, bg_threshold=0.35, refine='par', stride=2, scales=(0.5, 1.0, 1.5), flip=True),
    view_scale=0.3,
    radius=8,
    test_cfg=dict(
        scales=(0.5, 1.0, 1.5),
        flip=True,
        threshold=0.35,
        power=2,
        pseudo_label=dict(source='propagated', threshold=0.35),
    ),
)
