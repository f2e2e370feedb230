"""Mask proposals for SEPL: by a Segment Anything checkpoint, or superpixels to show the mechanism without one.

The masks come from a grid of point prompts and are filtered as in "Segment Anything" (Kirillov et al. 2023,
https://arxiv.org/abs/2304.02643, Appendix B): by predicted IoU, stability of the mask, touching the border of a crop,
and non-maximum suppression of boxes. The files are those of its mask generator with ``--convert-to-rle``.
"""

from csrm_plugin.inference.sam_masks.make import make_masks, report_line
from csrm_plugin.inference.sam_masks.settings import SUPERPIXELS, SamSettings

__all__ = ['SUPERPIXELS', 'SamSettings', 'make_masks', 'report_line']
