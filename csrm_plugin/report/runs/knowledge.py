"""What a result of a pipeline stands on beside pictures, by the cards of its stages: labels, weights, masks."""

from collections.abc import Iterable, Mapping

#: What may be known, in the order in which it is told; masks that chose a threshold come before those learnt from.
IMAGE_LABELS, IMAGENET, SAM, MASKS = 'image labels', 'ImageNet weights', 'SAM', 'full masks'
#: What a card of a verification stage calls labels that no model made.
TRUE_MASKS = 'true masks'
#: Names of settings that point to weights that a training starts from.
_WEIGHTS = ('.init_cfg.checkpoint', '.pretrained')


def knowledge_of(card: Mapping, by_stage: Mapping[str, Mapping]) -> list[str]:
    """What a stage used, itself and through the stages that it stands on.

    Args:
        card (dict): Of the stage.
        by_stage (dict[str, dict]): Cards of all stages, by name.

    Returns:
        list[str]: Of ``image labels``, ``ImageNet weights`` (where a training really began with weights from a file),
        ``SAM``, ``masks of SPLIT for the threshold`` and ``full masks``.
    """
    waiting, seen, found = [card], set(), set()
    while waiting:
        current = waiting.pop()
        if current['stage'] not in seen:
            seen.add(current['stage'])
            before = [by_stage[name] for name in current.get('inputs') or () if name in by_stage]
            found |= _own_knowledge(current, before)
            waiting += before
    return sorted(found, key=_place)


def told(knowledge: Iterable[str]) -> str:
    """Knowledge as the cell of a table."""
    return ', '.join(knowledge)


def has_pretrained_weights(card: Mapping) -> bool:
    """Whether a part of the model of a training began with weights from a file, by its settings and its log."""
    settings = (card.get('config') or {}).get('settings') or {}
    random = set((card.get('context') or {}).get('random_weights') or ())
    for key, value in settings.items():
        if key.startswith('model.') and key.endswith(_WEIGHTS) and isinstance(value, str):
            given = value.strip().lower() not in ('', 'none') and not value.endswith('(not there)')
            part = key[: -len(next(end for end in _WEIGHTS if key.endswith(end)))]
            if given and settings.get(f'{part}.type') not in random:
                return True
    return False


def _own_knowledge(card, before) -> set[str]:
    """What a stage used itself, given the cards that it stands on."""
    kind, context, found = card['kind'], card.get('context') or {}, set()
    # What a training starts from takes the place of weights from a file.
    fresh = not any(other['kind'] in ('train', 'verify') for other in before)
    if kind in ('train', 'verify') and fresh and has_pretrained_weights(card):
        found.add(IMAGENET)
    if kind == 'train' or (kind == 'labels' and context.get('restricted') in (None, 'labels')):
        found.add(IMAGE_LABELS)
    if kind == 'labels' and context.get('threshold_chosen_on'):
        found.add(f'masks of {context["threshold_chosen_on"]} for the threshold')
    if kind == 'masks' and context.get('masks') != 'superpixels':
        found.add(SAM)
    if kind == 'verify' and context.get('labels') == TRUE_MASKS:
        found.add(MASKS)
    return found


def _place(name) -> tuple[int, str]:
    order = [IMAGE_LABELS, IMAGENET, SAM, None, MASKS]
    return order.index(name if name in order else None), name
