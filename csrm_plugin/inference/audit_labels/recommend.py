"""Which thresholds to train with, and why."""

from collections.abc import Sequence

from csrm_plugin.inference.audit_labels.settings import TITLES, Plan
from csrm_plugin.utils.text import cell

#: Percent of the pixels, and of the objects' pixels, that must have a label.
MIN_COVERAGE = 80.0

#: Fewer pictures are called a handful.
HANDFUL = 50

#: Settings whose mIoU is so close to the recommended one's are named beside it, in points.
CLOSE = 1.0


def reach(row: dict) -> float:
    """Percent that a setting labels: of all counted pixels, or of those of objects where that is less."""
    labelled = row['foreground']['labelled']
    return min(row['coverage'], 100.0 if labelled is None else labelled)


def recommend(rows: Sequence[dict], plan: Plan, min_coverage: float = MIN_COVERAGE) -> list[dict]:
    """The thresholds to train with, one pair for each refinement at the views that were asked for; the best one first.

    mIoU on the labelled pixels alone would recommend to label next to nothing: it rises as the thresholds part, for the
    easy pixels are left. The share that is labelled alone would recommend to label everything, wrongly. So: the best
    mIoU on the labelled pixels among the settings that label at least ``min_coverage`` percent of the pixels and of
    those of objects; where none does, the setting that labels most.

    Args:
        rows (list[dict]): Scores of each setting of the plan, in its order; see
            :func:`csrm_plugin.inference.audit_labels.scores.score_labels`.
        plan (Plan): The settings.
        min_coverage (float): In percent.

    Returns:
        list[dict]: ``setting`` (place in the plan), ``refine``, ``fg_threshold``, ``bg_threshold``, ``reason`` (one
        line), ``reached`` (bool, whether the coverage is), ``close`` (places of others with nearly the same mIoU).
    """
    found = []
    for refine in TITLES:
        places = [
            place
            for place, setting in enumerate(plan.settings)
            if setting.views == plan.views and setting.refine == refine and rows[place]['miou'] is not None
        ]
        if places:
            found.append(_choose(rows, plan, refine, places, min_coverage))
    return sorted(found, key=lambda choice: (choice['reached'], rows[choice['setting']]['miou']), reverse=True)


def _choose(rows, plan, refine, places, min_coverage) -> dict:
    """The recommended one of the settings at ``places``, which have one refinement."""
    enough = [place for place in places if reach(rows[place]) >= min_coverage]
    if enough:
        best = max(enough, key=lambda place: (rows[place]['miou'], rows[place]['coverage']))
        reason = (
            f'best mIoU on labelled pixels ({cell(rows[best]["miou"])}) of the {len(enough)} of {len(places)} settings '
            f'that label at least {min_coverage:g} % of the pixels and of those of objects'
        )
    else:
        best = max(places, key=lambda place: (reach(rows[place]), rows[place]['miou']))
        reason = (
            f'none of the {len(places)} settings labels {min_coverage:g} % of the pixels and of those of objects; '
            'this one labels most: lower fg, raise bg, or accept less with --min-coverage'
        )
    labelled = rows[best]['foreground']['labelled']
    reason += f' (it labels {cell(rows[best]["coverage"])} % and {cell(labelled)} %)'
    close = [place for place in enough if place != best and rows[best]['miou'] - rows[place]['miou'] <= CLOSE]
    setting = plan.settings[best]
    return dict(
        setting=best,
        refine=refine,
        fg_threshold=setting.fg_threshold,
        bg_threshold=setting.bg_threshold,
        reason=reason,
        reached=bool(enough),
        close=close,
    )


def cautions(pictures: int, pixels_of_class: dict[str, int]) -> list[str]:
    """What keeps the table from saying much, in sentences.

    Args:
        pictures (int): How many the table stands on.
        pixels_of_class (dict[str, int]): Counted pixels of each class in the masks, the background first.
    """
    lines = []
    if pictures < HANDFUL:
        lines.append(
            f'{pictures} {"picture is" if pictures == 1 else "pictures are"} a handful: differences of a few points '
            'between settings may be those of other pictures, so prefer a setting whose neighbours are good as well'
        )
    absent = [name for name, pixels in list(pixels_of_class.items())[1:] if not pixels]
    if absent:
        names = ', '.join(absent[:5]) + (f' and {len(absent) - 5} more' if len(absent) > 5 else '')
        lines.append(f'{len(absent)} of {len(pixels_of_class) - 1} classes are in none of the masks: {names}')
    return lines
