# Real pictures of VOC 2012 with image-level labels, six classes, small; $VOC_ANIMALS_ROOT names the folder.
_base_ = './image_labels.py'

data_root = '{{$VOC_ANIMALS_ROOT:data/voc_animals}}'
train_scale = (224, 224)  # width, height in pixels
test_scale = train_scale
source = dict(type='VOCAnimalsDataset', data_root=data_root)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=train_scale, keep_ratio=False),
    *_base_.after_train_resize,
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale, keep_ratio=False),
    *_base_.after_test_resize,
]
tta_sizes = [tuple(int(factor * side) for side in test_scale) for factor in _base_.tta_scales]
tta_resizes = [dict(type='Resize', scale=size, keep_ratio=False) for size in tta_sizes]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[tta_resizes, *_base_.after_tta_resize]),
]

train_dataloader = dict(dataset=dict(**source, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**source, pipeline=test_pipeline))
test_dataloader = val_dataloader
