# What all configs share. `randomness`, `load_from` and `resume` can be set by --cfg-options.
_base_ = 'mmseg::_base_/default_runtime.py'
custom_imports = dict(imports=['csrm_plugin'], allow_failed_imports=False)

# Processes draw mixtures and dropout of their own. On one process ours leave `diff_rank_seed` out.
randomness = dict(seed=0, deterministic=False, diff_rank_seed=True)
load_from = None
resume = False
log_processor = dict(by_epoch=True)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # Validation is logged at the iteration, like everything else.
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Two, so that one is whole when a run is killed while it saves.
    checkpoint=dict(type='CheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    alarm=dict(type='CollapseAlarmHook'),
    record=dict(type='RunRecordHook'),
    pictures=dict(type='SamplePicturesHook', count=4, extremes=2),
)
# W&B runs are kept offline where there is no key or network; `WANDB_MODE=disabled` turns it off.
vis_backends = [
    dict(type='LocalVisBackend'),
    dict(type='OptionalTensorboardBackend'),
    dict(type='WSSSWandbBackend', init_kwargs=dict(group=None, tags=None), artifact=None),
]
# No name of its own (the base has one): two runs in one process would share the first one's folder.
visualizer = dict(_delete_=True, type='SegLocalVisualizer', vis_backends=vis_backends)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
tta_model = dict(type='WSSSTTAModel')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
