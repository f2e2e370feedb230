# CSRM on synthetic pictures, from the classifier: `--cfg-options load_from=work_dirs/cam_demo/epoch_40.pth`.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/demo.py',
    '_base_/models/csrm_resnet18_demo.py',
    '_base_/schedules/csrm.py',
]
lr = 0.01  # of backbone and CAM head, which the classifier has trained; the new branches learn ten times as fast
max_epochs = 48  # of 10 iterations
warmup_iters = 360  # loss_c and loss_s alone, with labels that are made once
ramp_iters = 20  # until the mutual losses have their whole weight
fg_threshold = 0.1  # in 0..1; both are low, because the CAMs of this network are narrow
bg_threshold = 0.05  # in 0..1

model = dict(
    pseudo_label=dict(fg_threshold=fg_threshold, bg_threshold=bg_threshold, flip=True),
    student_scales=(0.75, 1.5),
    loss_s2c=dict(loss_weight=0.1),
    # With weight 1 this small network, which nothing has pretrained, forgets its classes for the contrast; at a higher
    # rate than this its representation collapses.
    loss_m=dict(loss_weight=0.1),
)
custom_hooks = [
    dict(type='WarmupHook', iters=warmup_iters, ramp_iters=ramp_iters),
    dict(type='ScheduleHook', attribute='alpha', end=0.0),
    dict(type='ScheduleHook', attribute='sigma_s2c', end=1.0),
    # In the warm-up the labels stay those of the classifier.
    dict(type='MeanTeacherHook', warmup_decay=1.0),
]
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(custom_keys=dict(representation_head=dict(lr_mult=0.1))))
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
