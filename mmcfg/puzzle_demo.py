# Stage 0 of the demo data with Puzzle-CAM in place of the plain classifier.
_base_ = 'cam_demo.py'

max_reconstruction_weight = 1.0  # of the distance between the map of the picture and that of its tiles

model = dict(type='PuzzleCAM', tiles=2, loss_re_weight=max_reconstruction_weight)
# The maps must mean something before they can agree.
custom_hooks = [
    dict(type='ScheduleHook', attribute='reconstruction_weight', start=0.0, end=1.0, relative=True, until=0.5)
]
