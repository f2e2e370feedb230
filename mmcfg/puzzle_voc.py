# Stage 0 on VOC 2012 with Puzzle-CAM (Jo and Yu 2021): weight of the reconstruction loss up to 4 within half the run.
_base_ = 'cam_voc.py'

loss_re_weight = 4.0
model = dict(type='PuzzleCAM', tiles=2, loss_re_weight=loss_re_weight)
# 10582 pictures in batches of 32 are 330 iterations an epoch, so half of 15 epochs are 2475.
custom_hooks = [dict(type='ScheduleHook', attribute='reconstruction_weight', start=0.0, end=1.0, relative=True, iters=2475)]
