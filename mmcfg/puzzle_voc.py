# Stage 0 on VOC 2012 with Puzzle-CAM (Jo and Yu 2021): weight of the reconstruction loss up to 4 within half the run.
_base_ = 'cam_voc.py'

loss_re_weight = 4.0
model = dict(type='PuzzleCAM', tiles=2, loss_re_weight=loss_re_weight)
custom_hooks = [
    dict(type='ScheduleHook', attribute='reconstruction_weight', start=0.0, end=1.0, relative=True, until=0.5)
]
