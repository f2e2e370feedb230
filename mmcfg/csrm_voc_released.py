# CSRM on VOC 2012 with the settings of the authors' released code where they are not those of the paper.
_base_ = 'csrm_voc.py'

group_norm = dict(type='GN', num_groups=4)
model = dict(
    backbone=dict(norm_eval=True, norm_cfg=dict(requires_grad=False)),
    decode_head=dict(norm_cfg=dict(_delete_=True, **group_norm)),
    representation_head=dict(norm_cfg=dict(_delete_=True, **group_norm)),
    loss_c=dict(label_smoothing=0.1),
    loss_s2c=dict(align_corners=True),
    loss_m=dict(high_rank=20, num_queries=256, num_negatives=50),  # the paper says 6, 50 and 256
    pseudo_label=dict(fg_threshold=0.30),
    reliability=dict(sigma_s2c=0.5),
    bank_capacity=30000,  # keys per class; the released bank holds 50000 of the background
)
optim_wrapper = dict(optimizer=dict(nesterov=True), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, convert_to_iter_based=True)]
custom_hooks = [
    dict(type='WarmupHook', epochs=1),
    dict(type='ScheduleHook', attribute='alpha', end=0.0),
    # sigma_s2c stays; the weight of loss_s2c rises instead
    dict(type='ScheduleHook', attribute='loss_s2c.loss_weight', start=0.1, end=1.0, relative=True),
    dict(type='MeanTeacherHook'),
]
