"""Charts as inline SVG, drawn by Matplotlib."""

from csrm_plugin.report.charts.runs import bar_chart, line_chart, threshold_chart
from csrm_plugin.report.charts.series import MAX_POINTS, Series, describe, thin
from csrm_plugin.report.charts.svg import embed, swatch
from csrm_plugin.report.charts.trials import curves_chart, parallel_chart, scatter_chart

__all__ = [
    'MAX_POINTS',
    'Series',
    'bar_chart',
    'curves_chart',
    'describe',
    'embed',
    'line_chart',
    'parallel_chart',
    'scatter_chart',
    'swatch',
    'thin',
    'threshold_chart',
]
