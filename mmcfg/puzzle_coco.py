# Stage 0 on COCO 2014 with Puzzle-CAM (Jo and Yu 2021): weight of the reconstruction loss up to 4 within half the run.
_base_ = 'cam_coco.py'

loss_re_weight = 4.0
model = dict(type='PuzzleCAM', tiles=2, loss_re_weight=loss_re_weight)
# About 82000 pictures in batches of 32 are 2560 iterations an epoch, so half of 15 epochs are 19200.
custom_hooks = [dict(type='ScheduleHook', attribute='reconstruction_weight', start=0.0, end=1.0, relative=True, iters=19200)]
