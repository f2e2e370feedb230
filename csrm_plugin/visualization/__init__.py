"""Pictures for people: overlays, sheets, palettes, curves."""

from csrm_plugin.visualization.curves import require_plot_format, save_threshold_curve, threshold_figure
from csrm_plugin.visualization.label_png import save_label_png
from csrm_plugin.visualization.overlay import overlay_cams, overlay_labels, tile_lines
from csrm_plugin.visualization.sheet import Panel, draw_row, draw_sheet, save_picture

__all__ = [
    'Panel',
    'draw_row',
    'draw_sheet',
    'overlay_cams',
    'overlay_labels',
    'require_plot_format',
    'save_label_png',
    'save_picture',
    'save_threshold_curve',
    'threshold_figure',
    'tile_lines',
]
