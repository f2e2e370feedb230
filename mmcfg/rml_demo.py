# RML on synthetic pictures, in one training from scratch.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/demo.py',
    '_base_/models/rml_resnet18_demo.py',
]
lr = 0.05
max_epochs = 56  # of 10 iterations
warmup_epochs = 40  # classification alone

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, convert_to_iter_based=True)]
custom_hooks = [dict(type='WarmupHook', epochs=warmup_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=8)
val_evaluator = dict(type='WSSSMetric', pseudo_label=dict(source='propagated', threshold=0.35))
test_evaluator = val_evaluator
