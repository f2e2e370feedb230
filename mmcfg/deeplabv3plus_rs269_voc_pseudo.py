# Verification on VOC 2012: DeepLabV3+ on the label maps in $PSEUDO_LABELS, one for each picture of train_aug.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc12_pseudo.py',
    '_base_/models/deeplabv3plus_resnest269.py',
    '_base_/schedules/deeplabv3plus.py',
]
global_batch_size = 32
auto_scale_lr = dict(enable=False, base_batch_size=global_batch_size)
max_batch_per_process = 8
