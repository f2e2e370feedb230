"""What depends on the iteration: schedules, the mean teacher, alarms, records."""

from csrm_plugin.engine.hooks.collapse_alarm_hook import CollapseAlarmHook
from csrm_plugin.engine.hooks.mean_teacher_hook import MeanTeacherHook
from csrm_plugin.engine.hooks.memory_format_hook import MemoryFormatHook
from csrm_plugin.engine.hooks.run_record_hook import RunRecordHook
from csrm_plugin.engine.hooks.sample_pictures_hook import SamplePicturesHook
from csrm_plugin.engine.hooks.schedule_hook import ScheduleHook
from csrm_plugin.engine.hooks.warmup_hook import WarmupHook

__all__ = [
    'CollapseAlarmHook',
    'MeanTeacherHook',
    'MemoryFormatHook',
    'RunRecordHook',
    'SamplePicturesHook',
    'ScheduleHook',
    'WarmupHook',
]
