# Verification on VOC animals, two CPU cores: DeepLabV3+ on the label maps in $PSEUDO_LABELS, one per picture of train.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc_animals_pseudo.py',
    '_base_/models/deeplabv3plus_mobilenetv2.py',
    '_base_/schedules/deeplabv3plus.py',
]
lr = 1e-4  # of the backbone
lr_mult = 50  # of the new branch
max_epochs = 6  # of 91 iterations

model = dict(data_preprocessor=dict(size=_base_.crop_size), decode_head=dict(num_classes=7))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=lr_mult))),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=3)
