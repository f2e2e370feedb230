# Verification on synthetic pictures: DeepLabV3+ on the label maps in $PSEUDO_LABELS, one for each picture of train.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/demo_pseudo.py',
    '_base_/models/deeplabv3plus_resnet18_demo.py',
    '_base_/schedules/deeplabv3plus.py',
]
lr = 8e-3  # of all parameters alike: none are pretrained
max_epochs = 20  # of 20 iterations

train_dataloader = dict(batch_size=8)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01), paramwise_cfg=dict(_delete_=True)
)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
