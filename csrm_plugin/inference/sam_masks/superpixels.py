"""Superpixels in place of masks: to show the mechanism where there are no weights."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from csrm_plugin.inference.sam_masks.settings import SUPERPIXELS, SamSettings, option
from csrm_plugin.refine.sam import mask_record
from csrm_plugin.utils import UserError

SUPERPIXEL_ORIGIN = 'superpixels (felzenszwalb), mechanism only'

#: Larger scales give larger segments (``skimage.segmentation.felzenszwalb``).
SUPERPIXEL_SCALES = (50, 150, 400)

#: Standard deviation of the smoothing, in pixels.
SUPERPIXEL_SIGMA = 0.8

#: Smallest segment, as a fraction of the picture's pixels.
SUPERPIXEL_MIN_SHARE = 0.001


class SuperpixelProposer:
    """Segments of Felzenszwalb and Huttenlocher (2004) at several scales: not Segment Anything, a stand-in.

    Args:
        min_mask_area (int): Smaller segments are dropped, in pixels.
    """

    def __init__(self, min_mask_area: int = 0) -> None:
        self.min_mask_area = min_mask_area

    def describe(self) -> dict:
        """Content of ``masks.json``."""
        settings = dict(
            generator=SUPERPIXELS,
            scales=SUPERPIXEL_SCALES,
            sigma=SUPERPIXEL_SIGMA,
            min_share=SUPERPIXEL_MIN_SHARE,
            min_mask_area=self.min_mask_area,
        )
        return dict(generator=SUPERPIXEL_ORIGIN, checkpoint=None, settings=settings)

    def __call__(self, image: np.ndarray, name: str = '') -> list[dict]:
        """Entries of the JSON file; a segment that is the same at several scales is there once.

        Args:
            image (np.ndarray): (H, W, 3), uint8, RGB.
            name (str): Unused.
        """
        felzenszwalb = import_felzenszwalb()
        min_size = max(1, round(SUPERPIXEL_MIN_SHARE * image.shape[0] * image.shape[1]))
        found = {}
        for scale in SUPERPIXEL_SCALES:
            segments = felzenszwalb(image, scale=scale, sigma=SUPERPIXEL_SIGMA, min_size=min_size)
            for index, area in enumerate(np.bincount(segments.ravel())):
                if area >= max(self.min_mask_area, 1):
                    record = mask_record(segments == index, scale=scale)
                    found.setdefault(record['segmentation']['counts'], record)
        return list(found.values())


def import_felzenszwalb() -> Callable:
    """The function of scikit-image, or one line on how to get it."""
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise UserError(
            f'superpixels need the package scikit-image, which cannot be imported ({error}). Mend: `pip install '
            'scikit-image` (the extra `superpixels`)'
        ) from error
    return felzenszwalb


def superpixel_proposer(settings: SamSettings | None, min_mask_area: int) -> SuperpixelProposer:
    """The proposer, if no setting of Segment Anything is given and scikit-image is there."""
    default = SamSettings()
    chosen = settings or default
    given = [field.name for field in fields(default) if getattr(chosen, field.name) != getattr(default, field.name)]
    if given:
        raise UserError(f'{option(given[0])} is for Segment Anything; superpixels do not have it')
    import_felzenszwalb()
    return SuperpixelProposer(min_mask_area)
