from .collapse_alarm_hook import CollapseAlarmHook
from .mean_teacher_hook import MeanTeacherHook
from .run_record_hook import RunRecordHook
from .sample_pictures_hook import SamplePicturesHook
from .schedule_hook import ScheduleHook
from .warmup_hook import WarmupHook

__all__ = [
    'CollapseAlarmHook',
    'MeanTeacherHook',
    'RunRecordHook',
    'SamplePicturesHook',
    'ScheduleHook',
    'WarmupHook',
]
