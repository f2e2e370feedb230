# Stage 0 on MSRC with Puzzle-CAM (Jo and Yu 2021): weight of the reconstruction loss up to 4 within half the run.
_base_ = 'cam_msrc.py'

loss_re_weight = 4.0
train_scale = (256, 160)  # width, height in pixels: tiles of 128 x 80 are multiples of the stride of 16
model = dict(type='PuzzleCAM', tiles=2, loss_re_weight=loss_re_weight)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=train_scale, keep_ratio=False),
    *_base_.after_train_resize,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = [
    dict(type='ScheduleHook', attribute='reconstruction_weight', start=0.0, end=1.0, relative=True, until=0.5)
]
