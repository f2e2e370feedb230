"""A run against its own plain baseline: labels and networks that are below what is to be had without the method."""

from collections.abc import Sequence

from csrm_plugin.report.paper.baseline import CLASSIFIER
from csrm_plugin.report.paper.doctor.words import number, signed
from csrm_plugin.report.paper.table import table_of_cards
from csrm_plugin.report.runs.knowledge import MASKS

#: Scores that are told; the rest is counted.
SHOWN_SCORES = 6


def compare_with_baseline(run: Sequence[dict], tolerance: float = 0.5) -> dict:
    """Compare the labels and networks of a run with its plain baseline at an equal inference budget.

    Args:
        run (list[dict]): Cards of the run.
        tolerance (float): Points (of percent) that a score may be below the baseline's.

    Returns:
        dict: ``tolerance``; ``name`` of the baseline, for people, None where the run has none; and ``scores``: of each
        that has a counterpart ``kind`` (``labels`` or ``network``), ``what``, ``stage``, ``split``, ``metric``,
        ``here``, ``there``, ``over`` (stage of the baseline), ``difference`` (points) and ``off``. Networks that learnt
        from true masks are not among them. All of it is plain JSON.
    """
    table = table_of_cards(run) or {'labels': [], 'verification': []}
    found = next((row for row in table['labels'] if row['baseline']), None)
    name = None
    if found is not None:
        plain = found['baseline'] == CLASSIFIER
        name = f'the {CLASSIFIER}' if plain else f'the {found["what"]}, which is in the place of a {CLASSIFIER}'
    scores = []
    for kind, rows in (('labels', table['labels']), ('network', table['verification'])):
        for row in rows:
            if row['over'] is not None and MASKS not in row['knowledge']:
                scores += _scores_of(kind, row, next(other for other in rows if other['stage'] == row['over']))
    for score in scores:
        score['off'] = score['difference'] < -tolerance - 1e-9
    return dict(tolerance=tolerance, name=name, scores=scores)


def _scores_of(kind, row, other) -> list[dict]:
    """The scores of a row beside those of the baseline's."""
    found = []
    for key, gain in row['gain'].items():
        split, metric = (key, 'mIoU') if kind == 'labels' else (row['split'], key)
        entry = dict(kind=kind, what=row.get('what') or row['labels'], stage=row['stage'], split=split, metric=metric)
        entry |= dict(here=row['scores'][key], there=other['scores'][key], over=row['over'])
        found.append({**entry, 'difference': gain['points']})
    return found


def is_below(found: dict) -> bool:
    """Whether something that was found is below the plain baseline."""
    return any(score['off'] for score in found['scores'])


def baseline_lines(found: dict) -> list[str]:
    """What was found, in plain words: what is below the baseline, or that nothing is.

    Args:
        found (dict): From :func:`compare_with_baseline`.

    Returns:
        list[str]: One line each; none for a run that has no baseline.
    """
    name, lines = found['name'], []
    if not found['scores']:
        return [f'Nothing in this run has the budget of {name}.'] if name else []
    for kind in ('labels', 'network'):
        off: dict = {}
        for score in found['scores']:
            if score['kind'] == kind and score['off']:
                off.setdefault(score['what'], []).append(score)
        for what, scores in off.items():
            who = (
                f"{what}'s labels are below" if kind == 'labels' else f'The network trained on {what} is below that on'
            )
            lines.append(f'{who} {name}, at the same scales, flip and dCRF: {_told(scores)}.')
    if not lines:
        lines.append(
            f'Nothing is more than {found["tolerance"]:g} points below {name}, at the same scales, flip and dCRF: '
            f'{_told(found["scores"])}.'
        )
    return lines


def _told(scores) -> str:
    """``labels_csrm train 47.6 against 53.9 of labels_cam (-6.3)``, for the first of the scores."""
    shown = [
        f'{score["stage"]} {score["metric"]} {score["split"]} {number(score["here"])} against '
        f'{number(score["there"])} of {score["over"]} ({signed(score)})'
        for score in scores[:SHOWN_SCORES]
    ]
    more = f' and {len(scores) - SHOWN_SCORES} more' if len(scores) > SHOWN_SCORES else ''
    return ', '.join(shown) + more
