"""Settings of two cards of one stage: those of the config, and how the scores were made."""

from collections.abc import Iterable

from csrm_plugin.config.load import flatten
from csrm_plugin.report.runs.differences import ABSENT, differences, making_of_card

#: Entries of ``context`` that say where numbers come from, not how they were made.
NOT_PROTOCOL = {'checkpoint', 'config', 'pictures', 'pictures_with_masks', 'seed', 'splits'}

#: Parts of a stage's key that have a place of their own on the card.
KNOWN_KEY_PARTS = {'code', 'config', 'data', 'inputs', 'seed', 'versions'}


def compare_settings(here: dict, there: dict) -> tuple[bool, list[dict]]:
    """Settings of the scoring (``context``), then those of the config.

    Args:
        here (dict): Card of the run.
        there (dict): Card of the reference. Of the paper's only what it states is compared, and what our configs leave
            to a default.

    Returns:
        tuple[bool, list[dict]]: Whether both are known, and ``setting``, ``here`` and ``there`` of each that differs;
        the side where one is not set has no entry.
    """
    settings = [making_of_card(card).settings for card in (here, there)]
    contexts = [_context(card) for card in (here, there)]
    both = contexts[0].keys() & contexts[1].keys()
    known = all(settings) or bool(both)
    if there['status'] == 'published':
        defaults = set(there.get('defaults') or ())
        wanted = {key for key in settings[1] if key in settings[0] or key not in defaults or _above(key, settings[0])}
        differing = _differing(*settings, wanted) if settings[0] else []
        return known, _differing(*contexts, both) + differing
    if all(settings):
        differing = _differing(*settings, settings[0].keys() | settings[1].keys())
    else:
        hashes = [(card.get('config') or {}).get('hash') for card in (here, there)]
        known = known or None not in hashes
        differing = [{'setting': 'config', 'here': hashes[0], 'there': hashes[1]}] if hashes[0] != hashes[1] else []
    parts = [_key_parts(card) for card in (here, there)]
    differing += _differing(*parts, parts[0].keys() & parts[1].keys())
    wanted = (contexts[0].keys() | contexts[1].keys()) - {'context.multi_scale', 'context.with_crf'}
    return known, _differing(*contexts, wanted) + differing


def _differing(here, there, keys: Iterable[str]):
    """Settings that differ; the side where one is not set has no entry."""
    sides, found = {'here': here, 'there': there}, {}
    for key, values in differences((here, there), sorted(keys)).items():
        # `model.loss_m` is None here, and a dict of many settings there: that is one difference.
        above = next((name for side in (here, there) if key not in side and (name := _above(key, side))), None)
        if above is not None:
            found[above] = {'setting': above, **{name: side.get(above, 'set') for name, side in sides.items()}}
        else:
            known = {name: value for name, value in zip(sides, values) if value is not ABSENT}
            found[key] = {'setting': key, **known}
    return list(found.values())


def _above(key, settings):
    """The setting that is given as a whole where ``key`` would be a part of it, or None."""
    parts = key.split('.')
    candidates = ('.'.join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1))
    return next((name for name in candidates if name in settings), None)


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
