_base_ = ['_base_/runtime.py', '_base_/datasets/msrc.py', '_base_/models/cam_mobilenetv2.py']
num_classes=15
head = dict(
        in_channels=320, in_index=1, channels=64, dilations=(1, 3, 6, 9), c1_in_channels=24, c1_channels=24,
        norm_cfg=dict(type='BN', requires_grad=True), align_corners=False)
model = dict(
    type='CSRM',
    decode_head=dict(type='DepthwiseSeparableASPPHead', num_classes=num_classes+1, dropout_ratio=0.1, **head),
    representation_head=dict(type='RepresentationHead', embed_dims=64, **head),
    loss_s=dict(type='PseudoLabelLoss'),
    loss_s2c=dict(type='ActivationConsistencyLoss'),
    loss_u=dict(type='SegmentationConsistencyLoss'),
    loss_m=dict(type='PixelContrastLoss'),
    pseudo_label=dict(fg_threshold=0.8, bg_threshold=0.45, crf=dict(workers=2)),
    reliability=dict(alpha=0.2, sigma_s2c=0.1),
    label_stride=2,
)
custom_hooks = [
    dict(type='WarmupHook', epochs=6),
    dict(type='ScheduleHook', attribute='alpha', end=0.0),
    dict(type='ScheduleHook', attribute='sigma_s2c', end=1.0),
    dict(type='MeanTeacherHook'),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.007, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10),representation_head=dict(lr_mult=10))),
)
param_scheduler = [dict(type='PolyLR', power=1.0, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=4)
val_evaluator = dict(type='WSSSMetric', pseudo_label=dict(source='seg'))
test_evaluator = val_evaluator
