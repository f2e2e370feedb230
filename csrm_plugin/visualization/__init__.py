from .curves import require_plot_format, save_threshold_curve, threshold_figure
from .label_png import save_label_png
from .overlay import overlay_cams, overlay_labels, tile_lines
from .sheet import Panel, draw_row, draw_sheet, save_picture

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
