# CSRM on VOC 2012 as in the paper (VISAPP 2025). Start from a classifier: `--cfg-options load_from=FILE`.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc12_wsss.py',
    '_base_/models/csrm_resnest101.py',
    '_base_/schedules/csrm.py',
]
global_batch_size = 32
auto_scale_lr = dict(enable=False, base_batch_size=global_batch_size)
max_batch_per_process = 8
