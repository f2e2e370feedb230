# Optimiser and schedule of DeepLabV2, counted in iterations, with the runtime settings that follow from it. An
# iteration is an update as long as nothing is accumulated: `max_batch_per_process` is not set.
_base_ = '../runtime.py'

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=2.5e-4, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10))),
)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=10000, val_interval=2000)
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2000))
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
