"""Comparing two runs stage by stage."""

from collections.abc import Sequence

from csrm_plugin.report.paper.doctor.parts import COMPARISONS, PARTS, differing_parts
from csrm_plugin.report.paper.doctor.scores import compare_scores
from csrm_plugin.utils import UserError

#: States of a stage that count as off. The others are ``same``, ``differs`` (not in its scores), ``extra`` (not in the
#: reference) and ``skipped`` (an optional stage that this run left out).
OFF_STATES = ('off', 'unscored', 'missing', 'unfinished')


def compare_runs(run: Sequence[dict], reference: Sequence[dict], tolerance: float = 0.5) -> list[dict]:
    """Compare two runs stage by stage.

    Args:
        run (list[dict]): Cards of the run in question.
        reference (list[dict]): Cards of what it should be like.
        tolerance (float): Points (of percent) that a score may be below the reference's.

    Returns:
        list[dict]: One finding per stage, in the order of the stages. ``state`` is ``same``, ``differs`` (something,
        but the scores are fine), ``off`` (a score is below), ``unscored`` (the reference has scores, of which this
        one has none), ``missing``, ``unfinished``, ``skipped`` or ``extra``. ``scores`` holds ``split``, ``metric``,
        ``here``, ``there``, ``difference`` and ``off``; ``data``, ``inputs``, ``settings``, ``code``,
        ``seed`` and ``versions`` hold what differs; ``known`` names the parts that both cards have; ``stands_on``
        names the stages before, and ``outdated`` those of them that have run again since. All of it is plain JSON.

    Raises:
        UserError: If ``tolerance`` is negative, or the two have no stage in common.
    """
    if not tolerance >= 0:
        raise UserError(f'--tolerance must be at least 0 points, but is {tolerance}')
    here, there = ({card['stage']: card for card in cards} for cards in (run, reference))
    if here.keys().isdisjoint(there):
        raise UserError(
            f'the two have no stage in common: there are {", ".join(here) or "none"} in the run and '
            f'{", ".join(there) or "none"} in the reference'
        )
    # One that was interrupted knows its name alone; its place is that in the reference.
    placed = [stage for stage in here if here[stage]['status'] != 'interrupted']
    order = _order(placed, list(there))
    findings = []
    for stage in [*order, *(stage for stage in here if stage not in order)]:
        finding = _compare_stage(stage, here.get(stage), there.get(stage), tolerance)
        findings.append({**finding, 'outdated': _outdated(here.get(stage), here)})
    return findings


def is_off(finding: dict) -> bool:
    """Whether a stage is not as good as that of the reference."""
    return finding['state'] in OFF_STATES


def _outdated(card, cards):
    """Stages before, whose outcome is no longer the one that a stage was made from."""
    inputs = (card or {}).get('inputs') or {}
    return [name for name, key in inputs.items() if key and (cards.get(name) or {}).get('key') not in (None, key)]


def _order(here, there):
    """Stages of both: in the order of the run, each missing one behind the stage that it follows in the reference."""
    order, previous = list(here), None
    for stage in there:
        if stage not in order:
            order.insert(0 if previous is None else order.index(previous) + 1, stage)
        previous = stage
    return order


def _compare_stage(stage, here, there, tolerance):
    """The finding for one stage; one of the cards may be None."""
    reference = there or {}
    finding = dict(stage=stage, state='', tolerance=tolerance, published=reference.get('status') == 'published')
    finding |= dict(source=reference.get('source'), notes=list(reference.get('notes') or ()))
    finding |= dict(stands_on=list((here or {}).get('inputs') or ()), known=[], scores=[])
    finding |= {part: None if part in ('code', 'seed') else [] for part in PARTS}
    if here is None:
        return {**finding, 'state': 'skipped' if there.get('optional') else 'missing'}
    if here['status'] != 'done':
        return {
            **finding,
            'state': 'skipped' if here['status'] == 'skipped' else 'unfinished',
            'status': here['status'],
        }
    if there is None or there['status'] not in ('done', 'published'):
        return {**finding, 'state': 'extra'}
    for part, compare in COMPARISONS.items():
        known, finding[part] = compare(here, there)
        if known:
            finding['known'].append(part)
    finding['scores'] = compare_scores(here.get('scores') or {}, there.get('scores') or {}, tolerance)
    expected = [score for score in finding['scores'] if score['there'] is not None]
    if any(score['off'] for score in finding['scores']):
        state = 'off'
    elif expected and all(score['here'] is None for score in expected):
        state = 'unscored'
    else:
        state = 'differs' if differing_parts(finding) else 'same'
    return {**finding, 'state': state}
