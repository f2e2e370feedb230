# CSRM on VOC animals: real pictures, two CPU cores. Start from the classifier: `--cfg-options load_from=FILE`.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc_animals.py',
    '_base_/models/csrm_mobilenetv2.py',
    '_base_/schedules/csrm.py',
]
num_classes = 6
lr = 1e-4  # of backbone and CAM head
lr_mult = 100  # of the new branches: they must be there before the backbone has moved far
max_epochs = 6  # of 183 iterations
warmup_epochs = 4  # loss_c and loss_s alone, with labels that are made once
ramp_iters = 91  # until the mutual losses have their full weight

model = dict(
    cam_head=dict(num_classes=num_classes),
    decode_head=dict(num_classes=num_classes + 1),
    mix_min_area=0.02,  # share of the picture
    mix_prob=0.25,  # mixed pictures hold more foreground than real ones
    # One large view: CAMs of 21 x 21 positions, not 14 x 14; the thresholds were chosen by trainings, on val.
    # dCRF and pixel losses work at half the input's resolution: a quarter of the work.
    pseudo_label=dict(fg_threshold=0.25, bg_threshold=0.15, stride=2, scales=(1.5,), flip=True),
    student_scales=(0.75, 1.5),  # so that the segmentation has seen the sizes that it is tested at
    # loss_s2c rescales the CAMs, so that thresholds chosen for the classifier's no longer fit
    loss_s2c=dict(loss_weight=0.01),
    loss_u=dict(loss_weight=0.3),
    loss_m=dict(loss_weight=0.3),
)
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(decode_head=dict(lr_mult=lr_mult), representation_head=dict(lr_mult=lr_mult)),
    ),
)
custom_hooks = [
    dict(type='WarmupHook', epochs=warmup_epochs, ramp_iters=ramp_iters),
    dict(type='ScheduleHook', attribute='alpha', end=0.0, begin='warmup'),
    dict(type='ScheduleHook', attribute='sigma_s2c', end=1.0, begin='warmup'),
    # In the warm-up the labels stay those of the classifier; then the teacher follows fast, for the run is short.
    dict(type='MeanTeacherHook', max_decay=0.97, warmup_decay=1.0),
]
default_hooks = dict(memory_format=dict(type='MemoryFormatHook'))  # a MobileNetV2 on a CPU is faster for it
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
