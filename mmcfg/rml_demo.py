# RML on synthetic pictures, in one training from scratch.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/demo.py',
    '_base_/models/rml_resnet18_demo.py',
]
lr = 0.05
max_epochs = 60  # of 10 iterations
warmup_epochs = 36  # classification alone
threshold = 0.5  # of the background against propagated CAMs, in 0..1

model = dict(
    # The mean, not RML's maximum, which a network without pretrained weights is slow to learn.
    cam_head=dict(pooling='avg'),
    radius=2,  # of 16 x 12 positions: the objects are small
    # A tenth of these pictures are objects: without the balance their own positions would have no affinity.
    loss_pixel=dict(balanced=True),
    test_cfg=dict(threshold=threshold, pseudo_label=dict(threshold=threshold)),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(affinity_head=dict(lr_mult=10))),
)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, convert_to_iter_based=True)]
custom_hooks = [dict(type='WarmupHook', epochs=warmup_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=6)
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
