"""What was found, in plain words: the first stage that is off, and what may be why."""

from collections.abc import Sequence

from csrm_plugin.report.paper.doctor.comparison import is_off
from csrm_plugin.report.paper.doctor.parts import CHOICES, PARTS, differing_parts
from csrm_plugin.report.paper.doctor.words import listed, number, signed, tell

#: Scores that are told; the rest is counted.
SHOWN_SCORES = 4


def verdict(findings: Sequence[dict]) -> str:
    """Say in plain words which stage is off first, and what differs there and in the stages that it stands on.

    Args:
        findings (list[dict]): From :func:`compare_runs`.

    Returns:
        str: One line.
    """
    compared = [finding for finding in findings if finding['state'] != 'missing']
    off = [finding for finding in compared if is_off(finding)]
    sentences = _first_off(off[0], findings) if off else [_nothing_off(findings)]
    if off[1:]:
        sentences.append(f'Also off: {", ".join(finding["stage"] for finding in off[1:])}.')
    for state, words in (('missing', 'Not in this run'), ('skipped', 'Left out in this run')):
        stages = [finding['stage'] for finding in findings if finding['state'] == state]
        if stages:
            sentences.append(f'{words}: {", ".join(stages)}.')
    outdated = [f'{f["stage"]} (by {", ".join(f["outdated"])})' for f in findings if f['outdated']]
    if outdated:
        sentences.append(f'Out of date: {", ".join(outdated)}; run the pipeline again.')
    return ' '.join(sentences)


def _nothing_off(findings):
    """The sentence for a run whose stages are all fine."""
    scored = [f['stage'] for f in findings if any(score['difference'] is not None for score in f['scores'])]
    if not scored:
        return 'No stage that both have holds a score to compare.'
    worst = min(s['difference'] for f in findings for s in f['scores'] if s['difference'] is not None)
    opening = 'No score is off' if any(f['state'] == 'missing' for f in findings) else 'Nothing is off'
    text = (
        f'{opening}: in {", ".join(scored)} none is more than {findings[0]["tolerance"]:g} points below the reference '
        f'(the lowest difference is {worst:+.2f}).'
    )
    differing = [finding['stage'] for finding in findings if differing_parts(finding)]
    return text + (f' Something other than scores differs in {", ".join(differing)}.' if differing else '')


def _first_off(finding, findings):
    """Sentences on the first stage that is off."""
    stage = finding['stage']
    if finding['state'] == 'unfinished':
        return [f'First stage that is off: {stage}: not finished (status {finding["status"]}).']
    if finding['state'] == 'unscored':
        names = [f'{score["metric"]} {score["split"]}' for score in finding['scores'] if score['there'] is not None]
        return [f'First stage that is off: {stage}: it holds none of the scores of the reference ({", ".join(names)}).']
    scores = [
        f'{score["metric"]} {score["split"]} '
        + (f'{number(score["here"])} against ' if score['here'] is not None else 'no number against ')
        + number(score['there'])
        + (f' ({signed(score)})' if score['difference'] is not None else '')
        for score in finding['scores']
        if score['off']
    ]
    more = f' and {len(scores) - SHOWN_SCORES} more' if len(scores) > SHOWN_SCORES else ''
    sentences = [f'First stage that is off: {stage}: {", ".join(scores[:SHOWN_SCORES])}{more}.', _explain(finding)]
    for before in _stages_before(finding, findings):
        # Another seed or library is told once, and other inputs by the stage that they come from.
        told = [part for part in differing_parts(before) if part in ('data', 'settings')]
        told += [part for part in ('code', 'seed', 'versions') if before[part] and not finding[part]]
        if told:
            sentences.append(f'It stands on {before["stage"]}, where {tell(before, told)}.')
    return sentences


def _explain(finding):
    """The sentence on what differs in a stage that is off, and what does not."""
    differing = differing_parts(finding)
    agreeing = [part for part in PARTS if part in finding['known'] and part not in differing]
    agree = f'Its {listed(agreeing)} {"agrees" if agreeing in (["seed"], ["code"]) else "agree"}' if agreeing else ''
    unknown = [part for part in PARTS if part not in finding['known']]
    where = 'not known of the paper' if finding['published'] else 'not on both cards'
    tail = f' ({listed(unknown)}: {where}).' if unknown else '.'
    if set(differing) & set(CHOICES):
        return _joined(agree, tell(finding, differing)) + tail
    if differing:
        choices = [part for part in CHOICES if part in agreeing]
        same = f'Same {listed(choices)}, but other scores' if choices else 'Other scores'
        return f'{same}: {tell(finding, differing)}{tail}'
    rest = 'nothing that the cards hold differs, so what is left is chance, the machine, or what no card holds'
    return _joined(agree, rest) + tail


def _joined(agree, rest):
    """Both parts of a sentence, or the second alone."""
    return f'{agree}; {rest}' if agree else rest[0].upper() + rest[1:]


def _stages_before(finding, findings):
    """Findings of all stages that a stage stands on, directly or not, in order."""
    by_stage = {other['stage']: other for other in findings}
    waiting, found = list(finding['stands_on']), set()
    while waiting:
        stage = waiting.pop()
        if stage in by_stage and stage not in found and stage != finding['stage']:
            found.add(stage)
            waiting += by_stage[stage]['stands_on']
    return [other for other in findings if other['stage'] in found]
