# RML on COCO 2014: the recipe of VOC. The paper's settings for COCO are not known to us; 4 epochs are ours, 82080
# iterations of the 82081 pictures of train that have labels. COCO's pictures fill a box of 640 pixels.
_base_ = [
    '_base_/runtime.py',
    '_base_/datasets/coco14_wsss.py',
    '_base_/models/rml_mit_b1.py',
    '_base_/schedules/rml.py',
]
global_batch_size = 4
auto_scale_lr = dict(enable=False, base_batch_size=global_batch_size)
max_batch_per_process = 4
train_scale = (640, 640)  # width, height in pixels: the pictures' own size
scale_range = (0.5, 2.0)  # random factor of train_scale
test_scale = train_scale  # their own size; the segmentation itself sees it at `model.test_cfg.scales`

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
tta_scales = (0.75, 1.0, 1.25)  # as in rml_voc.py
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
model = dict(cam_head=dict(num_classes=80))
train_cfg = dict(max_epochs=4, val_interval=2)  # val has 40504 pictures
