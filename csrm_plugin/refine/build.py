"""Choose by settings what refines pseudo labels in the training."""

from typing import Protocol

from csrm_plugin.refine.dense_crf import DenseCRF
from csrm_plugin.refine.pixel_adaptive import PixelAdaptiveRefinement
from csrm_plugin.utils import UserError

REFINEMENTS = ('crf', 'par', 'none')


class RefinementSettings(Protocol):
    """The keys of ``model.pseudo_label`` that choose a refinement, the same for all methods.

    Attributes:
        refine (str | None): One of :data:`REFINEMENTS`; None is ``'none'``.
        crf (dict | None): Arguments of :class:`DenseCRF`, its kernels in pixels of the input; None leaves dCRF out.
        par (dict | None): Arguments of :class:`PixelAdaptiveRefinement`, in pixels of the labels; None is its defaults.
        stride (int): Pixels of the input per pixel of the labels, in each direction.
    """

    refine: str | None
    crf: dict | None
    par: dict | None
    stride: int


def build_refinement(settings: RefinementSettings) -> DenseCRF | PixelAdaptiveRefinement | None:
    """What :func:`csrm_plugin.functional.cam_pseudo_labels` refines with; only dCRF needs another package.

    Args:
        settings (RefinementSettings): Settings that are not chosen are not looked at. ``refine='crf'`` with
            ``crf=None`` is no refinement.

    Returns:
        DenseCRF | PixelAdaptiveRefinement | None: None for no refinement.

    Raises:
        UserError: If there is no such refinement, one of its settings is out of range, or its package is missing.
    """
    if settings.refine == 'par':
        return PixelAdaptiveRefinement(**(settings.par or {}))
    if settings.refine == 'crf':
        return None if settings.crf is None else DenseCRF(**settings.crf).at_stride(settings.stride)
    if settings.refine not in ('none', None):
        raise UserError(
            f'`model.pseudo_label.refine` must be one of {", ".join(REFINEMENTS)}, but is {settings.refine!r}.'
        )
    return None


def refinement_title(refinement: DenseCRF | PixelAdaptiveRefinement | None) -> str:
    """What captions call the result of :func:`build_refinement`: ``dCRF``, ``PAR`` or ``not refined``."""
    return 'not refined' if refinement is None else refinement.title
