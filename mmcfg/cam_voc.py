# Stage 0 on VOC 2012: a classifier whose CAMs CSRM starts from.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc12_wsss.py',
    '_base_/models/cam_resnest101.py',
    '_base_/schedules/classifier.py',
]
global_batch_size = 32
auto_scale_lr = dict(enable=False, base_batch_size=global_batch_size)
max_batch_per_process = 16
