# COCO 2014 with image-level labels, laid out by `tools/prepare_data.py coco-json`; $COCO_ROOT names the folder.
dataset_type = 'COCO14WSSSDataset'
data_root = '{{$COCO_ROOT:data/coco14}}'
data_prefix = dict(img_path='JPEGImages', seg_map_path='SegmentationClass')
train_scale = (640, 640)  # width, height in pixels
test_scale = (2048, 640)  # longest and shortest side, proportions kept

# The training pipeline reads the picture and its image-level labels; it never opens a mask.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=train_scale, keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackWSSSInputs'),
]
# The mask is loaded after the resize and so keeps its own size: scores are computed at the picture's resolution.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    dict(type='LoadOptionalAnnotations'),
    dict(type='PackWSSSInputs'),
]
# `tools/test.py --tta`: several scales, each with and without a flip.
tta_scales = (0.5, 1.0, 1.5, 2.0)
tta_context = dict(scales=tta_scales, flip=True)
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=tuple(int(s * side) for side in test_scale), keep_ratio=True)
                for s in tta_scales
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadOptionalAnnotations')],
            [dict(type='PackWSSSInputs')],
        ],
    ),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=data_prefix,
        ann_file='ImageSets/Segmentation/train.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=data_prefix,
        ann_file='ImageSets/Segmentation/val.txt',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
