# Optimiser and schedules of CSRM. `lr` is that of pretrained parameters, the new branches learn ten times as fast.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.007, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), representation_head=dict(lr_mult=10))),
)
param_scheduler = [dict(type='PolyLR', power=1.0, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=15, val_interval=1)
custom_hooks = [
    dict(type='WarmupHook', epochs=1),
    dict(type='ScheduleHook', attribute='alpha', end=0.0),
    dict(type='ScheduleHook', attribute='sigma_s2c', end=1.0),
    dict(type='MeanTeacherHook'),
]
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
