# Synthetic pictures that the data set draws on first use; $DEMO_ROOT names the folder.
_base_ = './image_labels.py'

data_root = '{{$DEMO_ROOT:data/demo}}'
train_scale = (128, 96)  # width, height in pixels: the size they are drawn in
test_scale = train_scale
synthetic = dict(image_size=(128, 96), num_train=160, num_val=48, seed=0)
source = dict(type='SyntheticWSSSDataset', data_root=data_root, **synthetic)

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
