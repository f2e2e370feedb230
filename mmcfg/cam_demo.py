# Stage 0 of the demo: a classifier from scratch on synthetic pictures, whose CAMs CSRM starts from.
_base_ = ['_base_/runtime.py', '_base_/datasets/demo.py', '_base_/models/resnet18_demo.py']

lr = 0.05  # of all parameters: none are pretrained
max_epochs = 30

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
val_evaluator = dict(type='WSSSMetric', pseudo_label=dict(source='cam', threshold=0.5))
test_evaluator = val_evaluator
