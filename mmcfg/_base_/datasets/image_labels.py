# What the data sets with image-level labels share. Their own files, which inherit this one, say which data set it is,
# where it lies and at which size its pictures are seen.
data_prefix = dict(img_path='JPEGImages', seg_map_path='SegmentationClass')

# Pipelines are put together in those files: picture, resize to a size of their own, and one of these.
# Training reads the picture and its image-level labels; it never opens a mask.
after_train_resize = [dict(type='RandomFlip', prob=0.5), dict(type='PackWSSSInputs')]
# The mask is loaded after the resize and so keeps its own size: scores are computed at the picture's resolution.
after_test_resize = [dict(type='LoadOptionalAnnotations'), dict(type='PackWSSSInputs')]
# `tools/test.py --tta`: several scales, each with and without a flip.
tta_scales = (0.5, 1.0, 1.5, 2.0)  # factors of the test's size
tta_context = dict(scales=tta_scales, flip=True)
after_tta_resize = [
    [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
    [dict(type='LoadOptionalAnnotations')],
    [dict(type='PackWSSSInputs')],
]

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(data_prefix=data_prefix, ann_file='ImageSets/Segmentation/train.txt'),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_prefix=data_prefix, ann_file='ImageSets/Segmentation/val.txt', test_mode=True),
)
test_dataloader = val_dataloader
