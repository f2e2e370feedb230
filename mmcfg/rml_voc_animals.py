# RML on VOC animals: real pictures, two CPU cores, one training from ImageNet weights ($MSRC_WEIGHTS).
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc_animals.py',
    '_base_/models/rml_mobilenetv2.py',
]
lr = 5e-5  # of the backbone
lr_mult = 30  # of the heads
num_classes = 6
max_epochs = 5  # of 183 iterations
warmup_epochs = 2  # classification alone
threshold = 0.6  # of the background against propagated CAMs, in 0..1; RML has 0.35

model = dict(
    # The mean, not RML's maximum: these objects are large, and CAMs of a maximum show a few positions of them.
    cam_head=dict(pooling='avg', num_classes=num_classes),
    view_scale=0.5,  # of 224 x 224 pixels; RML's 0.3 would leave 4 x 4 positions
    # CAMs of a mean are wide, and propagation makes them wider; a higher power than RML's 2 does less so.
    test_cfg=dict(threshold=threshold, power=8, pseudo_label=dict(threshold=threshold)),
)
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=lr, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            cam_head=dict(lr_mult=lr_mult), affinity_head=dict(lr_mult=lr_mult), context_head=dict(lr_mult=lr_mult)
        )
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=91),
    dict(type='PolyLR', power=1.0, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type='WarmupHook', epochs=warmup_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
