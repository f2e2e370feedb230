from .collapse_alarm_hook import CollapseAlarmHook
from .mean_teacher_hook import MeanTeacherHook
from .schedule_hook import ScheduleHook
from .warmup_hook import WarmupHook

__all__ = ['CollapseAlarmHook', 'MeanTeacherHook', 'ScheduleHook', 'WarmupHook']
