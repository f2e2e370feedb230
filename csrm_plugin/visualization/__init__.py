from .label_png import save_label_png
from .overlay import overlay_cams, overlay_labels, tile_lines
from .sheet import Panel, draw_row, draw_sheet, save_picture

__all__ = [
    'Panel',
    'draw_row',
    'draw_sheet',
    'overlay_cams',
    'overlay_labels',
    'save_label_png',
    'save_picture',
    'tile_lines',
]
