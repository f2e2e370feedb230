# PASCAL VOC 2012 for the verification step: training reads label maps, one <id>.png per picture, from
# `train_dataloader.dataset.pseudo_label_dir` (default: $PSEUDO_LABELS). Scores are against the true masks of val.
_base_ = './voc12_wsss.py'

train_scale = (500, 500)  # width, height in pixels: the box that VOC's pictures fill, so factors are of their own size
scale_range = (0.5, 2.0)  # random factor of train_scale
crop_size = (512, 512)  # height, width in pixels; smaller pictures are padded, with 255 in the labels
test_scale = train_scale  # their own size, proportions kept

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPseudoLabels'),
    dict(type='RandomResize', scale=train_scale, ratio_range=scale_range, keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
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
    dataset=dict(pseudo_label_dir='{{$PSEUDO_LABELS:work_dirs/pseudo_labels}}', pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
