# Optimiser and schedules of RML. `lr` is that of pretrained parameters, the heads learn ten times as fast.
heads_lr_mult = 10
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            cam_head=dict(lr_mult=heads_lr_mult),
            affinity_head=dict(lr_mult=heads_lr_mult),
            context_head=dict(lr_mult=heads_lr_mult),
        ),
    ),
)
# Both act at once: the rate falls linearly over the whole training, and rises to that line in the first iterations.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, by_epoch=True, convert_to_iter_based=True),
]
# 18000 iterations on VOC are 6.8 epochs; see the configs.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=7, val_interval=1)
# Classification alone at first: the CAMs that the three levels compare have to be there before.
custom_hooks = [dict(type='WarmupHook', iters=2000)]
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
