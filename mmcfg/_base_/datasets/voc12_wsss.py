# PASCAL VOC 2012 with image-level labels; $VOC_ROOT names the folder VOC2012.
_base_ = './image_labels.py'

data_root = '{{$VOC_ROOT:data/VOCdevkit/VOC2012}}'
train_scale = (512, 512)  # width, height in pixels
test_scale = (2048, 512)  # longest and shortest side, proportions kept
source = dict(type='VOC12WSSSDataset', data_root=data_root)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=train_scale, keep_ratio=False),
    *_base_.after_train_resize,
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    *_base_.after_test_resize,
]
tta_sizes = [tuple(int(factor * side) for side in test_scale) for factor in _base_.tta_scales]
tta_resizes = [dict(type='Resize', scale=size, keep_ratio=True) for size in tta_sizes]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[tta_resizes, *_base_.after_tta_resize]),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    dataset=dict(**source, ann_file='ImageSets/Segmentation/train_aug.txt', pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=4, dataset=dict(**source, pipeline=test_pipeline))
test_dataloader = val_dataloader
