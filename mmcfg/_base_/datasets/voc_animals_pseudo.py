# VOC animals for the verification step: training reads label maps, one <id>.png per picture, from
# `train_dataloader.dataset.pseudo_label_dir` (default: $PSEUDO_LABELS). Scores are against the true masks of val.
_base_ = './voc_animals.py'

train_scale = (224, 224)  # width, height in pixels: what the other configs of this set see
scale_range = (0.75, 1.5)  # random factor of train_scale
crop_size = (224, 224)  # height, width in pixels; smaller pictures are padded, with 255 in the labels

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPseudoLabels'),
    dict(type='RandomResize', scale=train_scale, ratio_range=scale_range, keep_ratio=False),
    dict(type='RandomCrop', crop_size=crop_size),
    *_base_.after_train_resize,
]

train_dataloader = dict(
    dataset=dict(pseudo_label_dir='{{$PSEUDO_LABELS:work_dirs/pseudo_labels}}', pipeline=train_pipeline)
)
