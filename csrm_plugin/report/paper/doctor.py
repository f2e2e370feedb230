"""Which stage of a run is the first that falls short of a reference, and what may be why.

A reference is another run, or the paper (:mod:`.published`). Runs are lists of cards, see :mod:`.cards`.
"""

import os
import os.path as osp
import re

from rich.table import Table
from rich.text import Text

from csrm_plugin.config.load import flatten
from csrm_plugin.experiments.pipeline.cards import CARD, read_card, read_card_file, read_run
from csrm_plugin.report.paper import published
from csrm_plugin.utils import UserError

#: What may differ besides scores, in the order in which it is told.
PARTS = ('data', 'inputs', 'settings', 'code', 'seed', 'versions')

#: Parts that are somebody's choice; seed and versions are what is left to chance and to the machine.
CHOICES = ('data', 'inputs', 'settings', 'code')

#: States of a stage that count as off. The others are ``same``, ``differs`` (not in its scores), ``extra`` (not in the
#: reference) and ``skipped`` (an optional stage that this run left out).
OFF_STATES = ('off', 'unscored', 'missing', 'unfinished')

#: Entries of ``context`` that say where numbers come from, not how they were made.
NOT_PROTOCOL = {'checkpoint', 'config', 'pictures', 'pictures_with_masks', 'seed', 'splits'}

#: Parts of a stage's key that have a place of their own on the card.
KNOWN_KEY_PARTS = {'code', 'config', 'data', 'inputs', 'seed', 'versions'}

#: What a stage that has begun leaves in its folder before there is a card.
CLAIM = 'key'

#: Settings that are shown; the rest is counted.
SHOWN_SETTINGS = 8
SHOWN_SCORES = 4

#: Type of a config's data set -> name of the data set. A folder of the user's own is known by the name of its run.
DATASET_TYPES = {
    'VOC12WSSSDataset': 'voc',
    'COCO14WSSSDataset': 'coco',
    'MSRCDataset': 'msrc',
    'SyntheticWSSSDataset': 'demo',
}

#: Kinds of stages that belong to a method.
_METHOD_KINDS = ('train', 'labels', 'refined', 'sepl')

_SCORE = re.compile(r'(iou|map|acc|auc|dice|f1)(?![a-z])', re.IGNORECASE)


def load_pair(run, reference=None) -> tuple[list[dict], list[dict]]:
    """Read what is to be compared.

    Args:
        run (str): Folder of a run, folder of one of its stages, or a card.
        reference (str, optional): The same, or ``paper``, which is the default where the paper has the data set.

    Returns:
        tuple[list[dict], list[dict]]: Cards of the run and of the reference. Where one side is a single stage, the
        other is that stage alone.

    Raises:
        UserError: If there is nothing to read, if it cannot be read, or if the two are not of the same data set.
    """
    cards, single = _load(run)
    dataset = dataset_of(cards)
    if reference in (None, 'paper'):
        others, other_single = _load_paper(cards, dataset, asked=reference is not None), False
    else:
        others, other_single = _load(reference)
        if dataset_of(others) != dataset:
            raise UserError(
                f'`{run}` is of the data set {dataset}, but the reference `{reference}` of {dataset_of(others)}: their '
                'scores cannot be compared. Give a run of the same data set.'
            )
    if single and other_single and cards[0]['stage'] != others[0]['stage'] and cards[0]['kind'] == others[0]['kind']:
        others = [{**others[0], 'stage': cards[0]['stage']}]  # two stages of one kind, for example of an ablation
    if single:
        others = _same_stages(others, cards, reference or 'paper')
    if other_single:
        cards = _same_stages(cards, others, run)
    return cards, others


def dataset_of(cards) -> str:
    """Name of a run's data set: ``dataset`` of a card, the data set of a config, or the start of the run's name."""
    for card in cards:
        if card.get('dataset'):
            return str(card['dataset'])
    for card in cards:
        for loader in ('train_dataloader', 'test_dataloader'):
            name = DATASET_TYPES.get(_settings(card).get(f'{loader}.dataset.type'))
            if name:
                return name
    return str(cards[0]['run']).split('_')[0]


def compare_runs(run, reference, tolerance: float = 0.5) -> list[dict]:
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


def is_off(finding) -> bool:
    """Whether a stage is not as good as that of the reference."""
    return finding['state'] in OFF_STATES


def verdict(findings) -> str:
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


def draw_findings(findings) -> Table:
    """A table for the terminal: stage, what differs, scores in percent and their differences in points."""
    table = Table(show_lines=True)
    for name in ('stage', 'what differs', 'score'):
        table.add_column(name, overflow='fold', no_wrap=name == 'score')
    for name in ('here', 'there', 'difference'):
        table.add_column(name, justify='right', no_wrap=True)
    for finding in findings:
        cells = [
            (f'{score["metric"]} {score["split"]}', _number(score['here']), _number(score['there']), _signed(score))
            for score in finding['scores']
        ]
        columns = ['\n'.join(column) for column in zip(*cells)] or [''] * 4
        # As `Text`, for brackets in a setting are no markup.
        stage = '\n'.join(filter(None, [finding['stage'], finding['source']]))
        row = [Text(stage), Text('\n'.join(_differing_lines(finding))), *map(Text, columns)]
        style = 'red' if is_off(finding) else 'dim' if finding['state'] == 'extra' else None
        table.add_row(*row, style=style)
    return table


def note_lines(findings) -> list[str]:
    """What is to be known of the reference's scores, a line each, for the stages that were compared."""
    notes = {}
    for finding in findings:
        if finding['scores']:
            for note in finding['notes']:
                notes.setdefault(note, []).append(finding['stage'])
    return [f'{", ".join(stages)}: {note}.' for note, stages in notes.items()]


def _load(path):
    """Cards of a run, or the one of a stage; and whether it is one stage."""
    if osp.isfile(path):
        return [read_card_file(path)], True
    cards = read_run(path)
    if cards:
        return cards + _interrupted(path, cards), False
    card = read_card(path)
    if card is None:
        raise UserError(
            f'`{path}` holds no {CARD}, nor does one of its sub-folders: give the folder of a run that '
            '`tools/pipeline.py` made'
        )
    return [card], True


def _interrupted(folder, cards):
    """Cards for the stages that have begun but have no card."""
    stages = {card['stage'] for card in cards}
    names = [name for name in sorted(os.listdir(folder)) if osp.isfile(osp.join(folder, name, CLAIM))]
    return [
        dict(stage=name, kind='', run=cards[0]['run'], number=0, status='interrupted')
        for name in names
        if name not in stages and not osp.exists(osp.join(folder, name, CARD))
    ]


def _outdated(card, cards):
    """Stages before, whose outcome is no longer the one that a stage was made from."""
    inputs = (card or {}).get('inputs') or {}
    return [name for name, key in inputs.items() if key and (cards.get(name) or {}).get('key') not in (None, key)]


def _load_paper(cards, dataset, asked):
    """The paper as a run."""
    if dataset not in published.DATASETS:
        which = f'the paper has figures for {" and ".join(published.DATASETS)}, not for the data set {dataset}'
        mend = 'give a REFERENCE, that is the folder of another run' + (' instead of `paper`' if asked else '')
        raise UserError(f'{which}: {mend}')
    paper = published.paper_card_run(dataset, _verification_networks(cards))
    known, ours = ({card['stage'] for card in side if card['kind'] in _METHOD_KINDS} for side in (paper, cards))
    if ours and ours.isdisjoint(known):
        raise UserError(
            f"the paper's figures are of {', '.join(sorted(known))}, of which this run has none (it has "
            f'{", ".join(sorted(ours))}): give a REFERENCE, that is the folder of another run'
        )
    return paper


def _verification_networks(cards):
    """Which of the paper's networks each verification stage trains, by the name of its config; None for another."""
    networks = {}
    for card in cards:
        if card['stage'].startswith(('verify_csrm', 'verify_masks')):
            file = osp.basename((card.get('config') or {}).get('file') or '')
            networks[card['stage']] = next((name for name in published.NETWORKS if file.startswith(name)), None)
    return networks


def _same_stages(cards, single, name):
    """Those of ``cards`` that are of the single card's stage."""
    stage = single[0]['stage']
    same = [card for card in cards if card['stage'] == stage]
    if not same:
        raise UserError(f'`{name}` has no stage {stage}; it has {", ".join(card["stage"] for card in cards)}')
    return same


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
    for part, compare in _COMPARISONS.items():
        known, finding[part] = compare(here, there)
        if known:
            finding['known'].append(part)
    finding['scores'] = _compare_scores(here.get('scores') or {}, there.get('scores') or {}, tolerance)
    expected = [score for score in finding['scores'] if score['there'] is not None]
    if any(score['off'] for score in finding['scores']):
        state = 'off'
    elif expected and all(score['here'] is None for score in expected):
        state = 'unscored'
    else:
        state = 'differs' if _differing(finding) else 'same'
    return {**finding, 'state': state}


def _compare_data(here, there):
    """Splits by number of pictures and hash; those that the paper names only where the run has them."""
    mine, other = (
        {name.removeprefix('split '): split for name, split in (card.get('data') or {}).items()}
        for card in (here, there)
    )
    names = [name for name in {**other, **mine} if there['status'] != 'published' or (name in mine and name in other)]
    differing = []
    for name in names:
        a, b = (part.get(name) or {} for part in (mine, other))
        hashes = [side.get('hash') for side in (a, b)]
        if a.get('pictures') != b.get('pictures') or (None not in hashes and hashes[0] != hashes[1]):
            differing.append({'data': name, 'here': a.get('pictures'), 'there': b.get('pictures')})
    return bool(mine and other and names), differing


def _compare_inputs(here, there):
    """Names of the stages before whose keys differ."""
    if there['status'] == 'published':
        return False, []
    if here.get('inputs') is None or there.get('inputs') is None:
        return False, []
    mine, other = here['inputs'], there['inputs']
    return True, [name for name in {**other, **mine} if mine.get(name) != other.get(name)]


def _compare_settings(here, there):
    """Settings of the scoring (``context``), then those of the config."""
    settings = [_settings(card) for card in (here, there)]
    contexts = [_context(card) for card in (here, there)]
    known = all(settings) or any(contexts[0].keys() & contexts[1].keys())
    if there['status'] == 'published':
        defaults = set(there.get('defaults') or ())
        wanted = {key for key in settings[1] if key in settings[0] or key not in defaults or _above(key, settings[0])}
        differing = _differing_values(settings[0], settings[1], wanted) if settings[0] else []
        return known, _differing_values(*contexts, contexts[0].keys() & contexts[1].keys()) + differing
    if all(settings):
        differing = _differing_values(*settings, settings[0].keys() | settings[1].keys())
    else:
        hashes = [(card.get('config') or {}).get('hash') for card in (here, there)]
        known = known or None not in hashes
        differing = [{'setting': 'config', 'here': hashes[0], 'there': hashes[1]}] if hashes[0] != hashes[1] else []
    parts = [_key_parts(card) for card in (here, there)]
    differing += _differing_values(*parts, parts[0].keys() & parts[1].keys())
    wanted = (contexts[0].keys() | contexts[1].keys()) - {'context.multi_scale', 'context.with_crf'}
    return known, _differing_values(*contexts, wanted) + differing


def _differing_values(here, there, keys):
    """Settings that differ; the side where one is not set has no entry."""
    differing = {}
    for key in sorted(keys):
        values = {name: side[key] for name, side in (('here', here), ('there', there)) if key in side}
        # `model.loss_m` is None here, and a dict of many settings there: that is one difference.
        above = next((found for side in (here, there) if key not in side and (found := _above(key, side))), None)
        if above is not None:
            values = {name: side.get(above, 'set') for name, side in (('here', here), ('there', there))}
            key = above
        if len(values) < 2 or _unequal(values['here'], values['there']):
            differing[key] = {'setting': key, **values}
    return list(differing.values())


def _above(key, settings):
    """The setting that is given as a whole where ``key`` would be a part of it, or None."""
    parts = key.split('.')
    candidates = ('.'.join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1))
    return next((name for name in candidates if name in settings), None)


def _unequal(a, b):
    """Whether two values differ; 1 and 1.0 are the same, 1 and true are not."""
    return a != b or isinstance(a, bool) != isinstance(b, bool)


def _settings(card):
    """Settings of the config, without the seed, which is a part of its own."""
    settings = (card.get('config') or {}).get('settings') or {}
    return {key: value for key, value in settings.items() if key != 'randomness.seed'}


def _context(card):
    """How the scores were made, flat, as settings under ``context``."""
    context = {key: value for key, value in (card.get('context') or {}).items() if key not in NOT_PROTOCOL}
    # Of these the paper says only whether.
    if card['status'] != 'published' and isinstance(context.get('scales'), list):
        context['multi_scale'] = len(context['scales']) > 1
    if card['status'] != 'published' and context.get('crf') is not None:
        context['with_crf'] = bool(context['crf'])
    return flatten({'context': context}) if context else {}


def _key_parts(card):
    """Hashes that a stage's key is made from, of what has no other place on the card; shortened."""
    parts = {key: value for key, value in (card.get('key_parts') or {}).items() if key not in KNOWN_KEY_PARTS}
    return {key: value[:12] if isinstance(value, str) else value for key, value in flatten({'key': parts}).items()}


def _compare_code(here, there):
    """Hashes of the code, with the revisions where there are some."""
    hashes = [(card.get('key_parts') or {}).get('code') for card in (here, there)]
    if None in hashes or hashes[0] == hashes[1]:
        return None not in hashes, None
    revisions = [(card.get('git') or {}).get('revision') for card in (here, there)]
    return True, {'here': revisions[0] or hashes[0], 'there': revisions[1] or hashes[1]}


def _compare_seed(here, there):
    """Seeds, where both have one."""
    seeds = [card.get('seed') for card in (here, there)]
    differ = None not in seeds and seeds[0] != seeds[1]
    return None not in seeds, {'here': seeds[0], 'there': seeds[1]} if differ else None


def _compare_versions(here, there):
    """Libraries of different versions, or missing on one side."""
    mine, other = here.get('versions') or {}, there.get('versions') or {}
    if not mine or not other:
        return False, []
    return True, [
        {'library': name, 'here': mine.get(name), 'there': other.get(name)}
        for name in {**other, **mine}
        if mine.get(name) != other.get(name)
    ]


_COMPARISONS = {
    'data': _compare_data,
    'inputs': _compare_inputs,
    'settings': _compare_settings,
    'code': _compare_code,
    'seed': _compare_seed,
    'versions': _compare_versions,
}


def _compare_scores(here, there, tolerance):
    """Scores of each split: IoU, AP, accuracy, AUC, Dice and F1, not those at every threshold."""
    scores = []
    for split in {**there, **here}:
        mine, other = (side.get(split) if isinstance(side.get(split), dict) else {} for side in (here, there))
        for metric in {**other, **mine}:
            a, b = (side.get(metric) if _is_number(side.get(metric)) else None for side in (mine, other))
            if (a is None and b is None) or '@' in metric or not _SCORE.search(metric):
                continue
            difference = None if a is None or b is None else round(a - b, 6)
            # A score that is there but not a number (a diverged run) is off, too.
            off = b is not None and (metric in mine if difference is None else difference < -tolerance - 1e-9)
            scores.append(dict(split=split, metric=metric, here=a, there=b, difference=difference, off=off))
    return scores


def _is_number(value):
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float('inf')


def _differing(finding):
    """Names of the parts that differ."""
    return [part for part in PARTS if finding[part]]


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
    differing = [finding['stage'] for finding in findings if _differing(finding)]
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
        + (f'{_number(score["here"])} against ' if score['here'] is not None else 'no number against ')
        + _number(score['there'])
        + (f' ({_signed(score)})' if score['difference'] is not None else '')
        for score in finding['scores']
        if score['off']
    ]
    more = f' and {len(scores) - SHOWN_SCORES} more' if len(scores) > SHOWN_SCORES else ''
    sentences = [f'First stage that is off: {stage}: {", ".join(scores[:SHOWN_SCORES])}{more}.', _explain(finding)]
    for before in _stages_before(finding, findings):
        # Another seed or library is told once, and other inputs by the stage that they come from.
        told = [part for part in _differing(before) if part in ('data', 'settings')]
        told += [part for part in ('code', 'seed', 'versions') if before[part] and not finding[part]]
        if told:
            sentences.append(f'It stands on {before["stage"]}, where {_tell(before, told)}.')
    return sentences


def _explain(finding):
    """The sentence on what differs in a stage that is off, and what does not."""
    differing = _differing(finding)
    agreeing = [part for part in PARTS if part in finding['known'] and part not in differing]
    agree = f'Its {_listed(agreeing)} {"agrees" if agreeing in (["seed"], ["code"]) else "agree"}' if agreeing else ''
    unknown = [part for part in PARTS if part not in finding['known']]
    where = 'not known of the paper' if finding['published'] else 'not on both cards'
    tail = f' ({_listed(unknown)}: {where}).' if unknown else '.'
    if set(differing) & set(CHOICES):
        return _joined(agree, _tell(finding, differing)) + tail
    if differing:
        choices = [part for part in CHOICES if part in agreeing]
        same = f'Same {_listed(choices)}, but other scores' if choices else 'Other scores'
        return f'{same}: {_tell(finding, differing)}{tail}'
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


def _tell(finding, parts):
    """What differs in ``parts``, as a part of a sentence."""
    return '; '.join(_TELL[part](finding[part]) for part in parts)


def _tell_data(data):
    return 'data differ: ' + ', '.join(map(_data_line, data))


def _data_line(entry):
    if entry['here'] == entry['there']:
        return f'{entry["data"]} (as many pictures, but other names, order, sizes or labels)'
    return f'{entry["data"]} {_count(entry["here"])} against {_count(entry["there"])} pictures'


def _count(number):
    return 'no' if number is None else str(number)


def _tell_settings(settings):
    shown = ', '.join(map(_setting_line, settings[:SHOWN_SETTINGS]))
    more = f', and {len(settings) - SHOWN_SETTINGS} more' if len(settings) > SHOWN_SETTINGS else ''
    return f'{len(settings)} setting{"s differ" if len(settings) > 1 else " differs"}: {shown}{more}'


def _setting_line(entry):
    values = [str(entry[side]) if side in entry else 'not set' for side in ('here', 'there')]
    return f'{entry["setting"]} {values[0]} against {values[1]}'


_TELL = {
    'data': _tell_data,
    'inputs': lambda stages: f'the outcome of {", ".join(stages)}, which it stands on, differs',
    'settings': _tell_settings,
    'code': lambda code: f'the code differs ({code["here"][:12]} against {code["there"][:12]})',
    'seed': lambda seed: f'the seed differs ({seed["here"]} against {seed["there"]})',
    'versions': lambda versions: (
        'versions differ: '
        + ', '.join(
            f'{entry["library"]} {entry["here"] or "none"} against {entry["there"] or "none"}' for entry in versions
        )
    ),
}


def _differing_lines(finding):
    """Lines of the table's cell."""
    if finding['state'] == 'missing':
        return ['not in this run']
    if finding['state'] == 'extra':
        return ['not in the reference']
    if finding['state'] in ('unfinished', 'skipped'):
        return [f'not finished (status {finding["status"]})' if finding['state'] == 'unfinished' else 'left out']
    lines = [] if finding['state'] != 'unscored' else ['no score to compare']
    lines += [f'made from an earlier {stage}' for stage in finding['outdated']]
    for part in _differing(finding):
        if part == 'settings':
            lines += map(_setting_line, finding[part][:SHOWN_SETTINGS])
            if len(finding[part]) > SHOWN_SETTINGS:
                lines.append(f'and {len(finding[part]) - SHOWN_SETTINGS} more')
        else:
            lines.append(_TELL[part](finding[part]))
    return lines or ['nothing that the paper states' if finding['published'] else 'nothing']


def _listed(names):
    """``a, b and c``."""
    return ' and '.join(filter(None, [', '.join(names[:-1]), *names[-1:]]))


def _number(value):
    """A score with one or two decimals."""
    if value is None:
        return '-'
    text = f'{value:.2f}'
    return text[:-1] if text.endswith('0') else text


def _signed(score):
    """A difference with its sign."""
    difference = score['difference']
    if difference is None:
        return ''
    return ('+' if difference > 0 else '') + _number(difference)
