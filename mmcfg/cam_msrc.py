# Stage 0 on MSRC: a classifier whose CAMs CSRM starts from.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/msrc.py',
    '_base_/models/cam_mobilenetv2.py',
    '_base_/schedules/classifier.py',
]
train_cfg = dict(max_epochs=10, val_interval=10)
model = dict(test_cfg=dict(pseudo_label=dict(threshold=0.5)))
