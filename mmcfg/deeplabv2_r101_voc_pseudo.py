# Verification on VOC 2012: DeepLabV2 on the label maps in $PSEUDO_LABELS, one for each picture of train_aug.
_base_ = [
    '_base_/datasets/voc12_pseudo.py',
    '_base_/models/deeplabv2_resnet101.py',
    '_base_/schedules/deeplabv2.py',
]
global_batch_size = 10
auto_scale_lr = dict(enable=False, base_batch_size=global_batch_size)
crop_size = (321, 321)  # height, width in pixels
scale_range = (0.5, 1.5)  # random factor of the picture's own size

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPseudoLabels'),
    dict(type='RandomResize', scale=_base_.train_scale, ratio_range=scale_range, keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    *_base_.after_train_resize,
]
model = dict(data_preprocessor=dict(size=crop_size))
train_dataloader = dict(
    batch_size=global_batch_size,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(pipeline=train_pipeline),
)
