# Optimiser of the classifiers: the head learns ten times as fast as the pretrained backbone.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(cam_head=dict(lr_mult=10))),
)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=15, val_interval=1)
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
