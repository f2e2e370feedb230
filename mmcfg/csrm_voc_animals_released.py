# CSRM on VOC animals with the rules of the authors' released code, as csrm_voc_released has them, on the same budget.
_base_ = 'csrm_voc_animals.py'

group_norm = dict(type='GN', num_groups=4)
fg_threshold = 0.5  # the classifier's best; 0.30 and 0.05, the released ones, belong to another network
bg_threshold = 0.3

model = dict(
    backbone=dict(norm_eval=True, norm_cfg=dict(requires_grad=False)),
    decode_head=dict(norm_cfg=dict(_delete_=True, **group_norm)),
    representation_head=dict(norm_cfg=dict(_delete_=True, **group_norm)),
    mix_prob=0.5,
    mix_min_area=0.0,
    student_scales=None,
    loss_c=dict(label_smoothing=0.1),
    loss_s2c=dict(align_corners=True, loss_weight=1.0),
    loss_u=dict(loss_weight=1.0),
    loss_m=dict(high_rank=20, num_queries=256, num_negatives=50, loss_weight=1.0),
    pseudo_label=dict(fg_threshold=fg_threshold, bg_threshold=bg_threshold, stride=1, scales=(1.0,), flip=False),
    reliability=dict(sigma_s2c=0.5),
    bank_capacity=30000,  # keys per class; the released bank holds 50000 of the background
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=0.007, momentum=0.9, weight_decay=1e-4, nesterov=True),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), representation_head=dict(lr_mult=10))),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, convert_to_iter_based=True)]
custom_hooks = [
    dict(type='WarmupHook', epochs=1),
    dict(type='ScheduleHook', attribute='alpha', end=0.0),
    # sigma_s2c stays; the weight of loss_s2c rises instead
    dict(type='ScheduleHook', attribute='loss_s2c.loss_weight', start=0.1, end=1.0, relative=True),
    dict(type='MeanTeacherHook'),
]
