# CSRM on synthetic pictures, from the classifier: `--cfg-options load_from=work_dirs/cam_demo/epoch_40.pth`.
_base_ = ['_base_/runtime.py', '_base_/datasets/demo.py', '_base_/models/resnet18_demo.py']

lr = 0.01  # of backbone and CAM head; the new heads learn ten times as fast
max_epochs = 20  # of 10 iterations
warmup_iters = 80  # loss_c and loss_s alone
ramp_iters = 20  # until the mutual losses have their full weight
fg_threshold = 0.15  # in 0..1; low, because the CAMs of this network are narrow
bg_threshold = 0.05  # in 0..1

num_classes = 7  # with the background
head = dict(
    in_channels=128,
    in_index=1,
    channels=64,
    dilations=(1, 2, 4, 6),
    c1_in_channels=32,
    c1_channels=24,
    norm_cfg=dict(type='BN'),
    align_corners=False,
)
model = dict(
    type='CSRM',
    decode_head=dict(type='DepthwiseSeparableASPPHead', num_classes=num_classes, dropout_ratio=0.1, **head),
    representation_head=dict(type='RepresentationHead', embed_dims=64, **head),
    loss_s=dict(type='PseudoLabelLoss'),
    loss_s2c=dict(type='ActivationConsistencyLoss'),
    loss_u=dict(type='SegmentationConsistencyLoss'),
    loss_m=dict(type='PixelContrastLoss'),
    pseudo_label=dict(fg_threshold=fg_threshold, bg_threshold=bg_threshold, crf=dict(workers=2)),
    reliability=dict(alpha=0.2, sigma_s2c=0.1),
)
custom_hooks = [
    dict(type='WarmupHook', iters=warmup_iters, ramp_iters=ramp_iters),
    dict(type='ScheduleHook', attribute='alpha', end=0.0),
    dict(type='ScheduleHook', attribute='sigma_s2c', end=1.0),
    dict(type='MeanTeacherHook'),
    dict(type='CollapseAlarmHook'),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), representation_head=dict(lr_mult=10))),
)
param_scheduler = [dict(type='PolyLR', power=1.0, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_evaluator = dict(type='WSSSMetric', pseudo_label=dict(source='seg'))
test_evaluator = val_evaluator
