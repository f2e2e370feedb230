# Stage 0 on VOC animals: a classifier whose CAMs CSRM starts from. ImageNet weights: $MSRC_WEIGHTS.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc_animals.py',
    '_base_/models/cam_mobilenetv2.py',
    '_base_/schedules/classifier.py',
]
num_classes = 6
# SGD with 0.01, MSRC's, falls to background only here.
lr = 1e-4  # of the backbone
lr_mult = 10  # of the CAM head

model = dict(cam_head=dict(num_classes=num_classes), test_cfg=dict(pseudo_label=dict(threshold=0.5)))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(cam_head=dict(lr_mult=lr_mult))),
)
train_cfg = dict(max_epochs=4, val_interval=4)
