# Stage 0 of the demo: a classifier from scratch on synthetic pictures, whose CAMs CSRM starts from.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/demo.py',
    '_base_/models/cam_resnet18_demo.py',
    '_base_/schedules/classifier.py',
]
lr = 0.05  # of all parameters alike: none are pretrained
max_epochs = 40  # of 10 iterations
cam_threshold = 0.15  # of the pseudo labels, in 0..1; low, because the CAMs of this network are narrow

optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(_delete_=True))
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
model = dict(test_cfg=dict(pseudo_label=dict(threshold=cam_threshold)))
