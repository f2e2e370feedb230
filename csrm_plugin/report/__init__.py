"""HTML reports on runs, sweeps and pipelines; the folder paper alone knows this paper."""

from csrm_plugin.report.run_report import write_report
from csrm_plugin.report.sweep_report import write_sweep_report

__all__ = ['write_report', 'write_sweep_report']
