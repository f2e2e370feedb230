# Verification on MSRC, two CPU cores: DeepLabV3+ on the label maps in $PSEUDO_LABELS, one for each picture of train.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/msrc_pseudo.py',
    '_base_/models/deeplabv3plus_mobilenetv2.py',
    '_base_/schedules/deeplabv3plus.py',
]
lr = 1e-4  # of the backbone
lr_mult = 50  # of the new branch
max_epochs = 15  # of 18 iterations

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=lr_mult))),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
