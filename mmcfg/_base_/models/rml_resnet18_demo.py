# RML on the narrow ResNet-18 of the demo; a small attention block on its last stage gives the affinity.
_base_ = './cam_resnet18_demo.py'

model = dict(
    type='RML',
    backbone=dict(out_indices=(0, 1, 2)),
    cam_head=dict(pooling='max'),
    affinity_head=dict(type='AttentionAffinityHead', in_channels=128, embed_dims=64, num_heads=4),
    context_head=dict(type='ContextHead', in_channels=[32, 64, 128], channels=15, norm_cfg=dict(type='SyncBN')),
    loss_instance=dict(type='InstanceMutualLoss', similarity_weight=0.1, loss_weight=0.1),
    loss_feature=dict(type='FeatureMutualLoss', temperature=0.05, loss_weight=0.1),
    loss_pixel=dict(type='PixelMutualLoss', loss_weight=0.1),
    pseudo_label=dict(
        fg_threshold=0.55, bg_threshold=0.35, refine='par', stride=1, scales=(0.75, 1.0, 1.25), flip=True
    ),
    view_scale=0.5,
    radius=8,
    test_cfg=dict(
        scales=(0.75, 1.0, 1.25),
        flip=True,
        threshold=0.35,
        power=2,
        pseudo_label=dict(source='propagated', threshold=0.35),
    ),
)
