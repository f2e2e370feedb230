from .run_report import write_report
from .sweep_report import write_sweep_report

__all__ = ['write_report', 'write_sweep_report']
