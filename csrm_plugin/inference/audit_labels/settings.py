"""Which ways of making labels are compared: views, refinements and pairs of thresholds."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from csrm_plugin.functional import check_thresholds
from csrm_plugin.models.segmentors.pseudo_labeler import PseudoLabelSettings, check_scales, views_title
from csrm_plugin.refine import DenseCRF, PixelAdaptiveRefinement, build_refinement
from csrm_plugin.utils import UserError

#: Thresholds that are compared unless others are given; pairs with bg above fg are left out.
FG_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
BG_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)

#: What tables call a refinement.
TITLES = {'none': 'none', 'crf': 'dCRF', 'par': 'PAR'}


class Views(NamedTuple):
    """Sizes of the picture, relative to the network's input, whose CAMs are averaged, and whether also mirrored."""

    scales: tuple[float, ...]
    flip: bool

    def title(self) -> str:
        """For people, as in ``'scales 0.5 1 with flip'``."""
        return views_title(self.scales, self.flip)


class Setting(NamedTuple):
    """One way of making labels; one row of the table.

    Attributes:
        views (Views): What the CAM is seen from.
        refine (str): ``'none'``, ``'crf'`` or ``'par'``.
        fg_threshold (float): Score of the background above which a class is certain, in 0..1.
        bg_threshold (float): The one below which the background is, in 0..1.
    """

    views: Views
    refine: str
    fg_threshold: float
    bg_threshold: float


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        settings (tuple[Setting, ...]): Every row, each once.
        views (Views): Those that were asked for; the setting of the config may have others.
        config (Setting | None): The row that is the config's own; None for a model that learns from no pixel labels.
        exact (bool): Whether that row is refined as the config says.
        refinements (dict): What refines, by ``Setting.refine``; None for ``'none'``.
        stride (int): Pixels of the network's input per pixel of the labels, in each direction.
    """

    settings: tuple
    views: Views
    config: Setting | None
    exact: bool
    refinements: dict
    stride: int

    @property
    def all_views(self) -> tuple[Views, ...]:
        """Every views of a row, each once."""
        return tuple(dict.fromkeys(setting.views for setting in self.settings))


def make_plan(
    own: PseudoLabelSettings | None,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    fg: Sequence[float] = FG_THRESHOLDS,
    bg: Sequence[float] = BG_THRESHOLDS,
    crf: bool | None = None,
) -> Plan:
    """Everything that is compared, and the config's own setting.

    Args:
        own (PseudoLabelSettings, optional): Those of the config; what is not given comes from there. None for a model
            that learns from no pixel labels: then from the defaults of the paper (one scale, dCRF).
        scales (Sequence[float], optional): Sizes relative to the network's input.
        flip (bool, optional): Whether each is also seen mirrored.
        fg (Sequence[float]): Foreground thresholds, in 0..1.
        bg (Sequence[float]): Background thresholds, in 0..1; those above a foreground threshold do not go with it.
        crf (bool, optional): True: with dCRF alone; False: without refinement alone. None: without, and with what the
            config refines with (dCRF where it names nothing).

    Raises:
        UserError: If no pair of thresholds is left, a value is out of range, or the package of dCRF is missing.
    """
    base = own or PseudoLabelSettings()
    if scales is not None:
        check_scales('--scales', list(scales))
    views = Views(tuple(scales or base.scales), base.flip if flip is None else flip)
    refines = _refines(base, crf)
    pairs = _pairs(fg, bg)
    settings = [Setting(views, refine, *pair) for refine in refines for pair in pairs]
    config, exact = None, True
    if own is not None:
        wanted = refinement_of(own)
        exact = crf is not False or wanted == 'none'
        refine = wanted if exact else 'none'
        config = Setting(Views(own.scales, own.flip), refine, own.fg_threshold, own.bg_threshold)
        settings.append(config)
    settings = sorted(dict.fromkeys(settings), key=lambda row: (row.views != views, _order(row.refine), *row[2:]))
    refinements = {refine: build(base, refine) for refine in {row.refine for row in settings}}
    return Plan(tuple(settings), views, config, exact, refinements, base.stride)


def refinement_of(settings: PseudoLabelSettings) -> str:
    """What settings refine with: ``'crf'``, ``'par'`` or ``'none'``."""
    off = settings.refine in (None, 'none') or (settings.refine == 'crf' and settings.crf is None)
    return 'none' if off else settings.refine


def build(base: PseudoLabelSettings, refine: str) -> DenseCRF | PixelAdaptiveRefinement | None:
    """What refines, as the config says; dCRF without processes of its own, for its pictures are shared out already."""
    if refine == 'crf' and importlib.util.find_spec('pydensecrf') is None:
        raise UserError('dCRF needs the package pydensecrf: `pip install pydensecrf2`, or audit without by --no-crf')
    return build_refinement(replace(base, refine=refine, crf={**(base.crf or {}), 'workers': 0}))


def _refines(base, crf) -> list[str]:
    """Refinements to compare, none first."""
    if crf is not None:
        return ['crf' if crf else 'none']
    own = refinement_of(base)
    return ['none', 'crf' if own == 'none' else own]


def _order(refine) -> int:
    return list(TITLES).index(refine)


def _pairs(fg, bg) -> list[tuple[float, float]]:
    """Pairs of thresholds, each once, ascending."""
    for name, values in (('--fg', fg), ('--bg', bg)):
        wrong = [value for value in values if not 0 <= value <= 1]
        if wrong or not len(values):
            raise UserError(f'{name} must be thresholds from 0 to 1, but {wrong[0] if wrong else "there is none"}')
    pairs = sorted({(float(high), float(low)) for high in fg for low in bg if low <= high})
    if not pairs:
        raise UserError(
            f'--bg: every threshold is above every one of --fg (the lowest of --bg is {min(bg):g}, the highest of --fg '
            f'{max(fg):g}); the background is what stays below bg, so bg must not be above fg'
        )
    for pair in pairs:
        check_thresholds(*pair)
    return pairs
