# RML on VOC 2012, end to end from ImageNet weights, with the settings of the authors' released code as far as they are
# known. Its 18000 iterations of 4 pictures (2 on each of 2 GPUs) are 6.8 epochs of the 10582 pictures of train_aug;
# here they are 7 whole ones, 18515 iterations. With `max_batch_per_process` below 4 on one GPU an update takes several
# iterations, and the warm-ups (in iterations) should be multiplied accordingly.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/voc12_wsss.py',
    '_base_/models/rml_mit_b1.py',
    '_base_/schedules/rml.py',
]
global_batch_size = 4
auto_scale_lr = dict(enable=False, base_batch_size=global_batch_size)
max_batch_per_process = 4
train_scale = (500, 500)  # width, height in pixels: the box that VOC's pictures fill, so factors are of their own size
scale_range = (0.5, 2.0)  # random factor of train_scale; ours
test_scale = train_scale  # their own size; the segmentation itself sees it at `model.test_cfg.scales`

# A crop keeps the image-level labels of its picture, so some name a class that it cut off: with masks out of reach
# nothing can tell. The larger `scale_range` goes, the more of them.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResize', scale=train_scale, ratio_range=scale_range, keep_ratio=True),
    dict(type='RandomCrop', crop_size=_base_.crop_size),
    *_base_.after_train_resize,
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    *_base_.after_test_resize,
]
# Around the scales of the prediction itself, and so few and near to 1: affinities grow with the fourth power of it.
tta_scales = (0.75, 1.0, 1.25)
tta_context = dict(scales=tta_scales, flip=True)
tta_sizes = [tuple(int(factor * side) for side in test_scale) for factor in tta_scales]
tta_resizes = [dict(type='Resize', scale=size, keep_ratio=True) for size in tta_sizes]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[tta_resizes, *_base_.after_tta_resize]),
]
train_dataloader = dict(batch_size=global_batch_size, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
