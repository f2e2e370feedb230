"""The plain baseline of a run, and how far its other rows are above it at an equal budget.

The plain baseline is the strongest that is to be had without the method: the CAMs of the classifier, with the scales,
the flip and the dCRF that the method's labels get, at the threshold that is best on a split with masks, and a network
that is trained on those labels. A method of one training has no classifier beside it: the CAMs of its own network take
the place.
"""

from collections.abc import Mapping, Sequence

from csrm_plugin.config.keys import find_classes
from csrm_plugin.utils.text import cell

#: What a row is, if it is the baseline: CAMs of a classifier, or in their place those of the network of a method.
CLASSIFIER, SAME_NETWORK = 'plain baseline', 'same network'
#: What stands in the column of the gain in a row of the baseline.
REFERENCE = 'baseline'


def origin_of(card: Mapping) -> tuple[str, bool, bool]:
    """What made label maps, by the card of the stage that made them.

    Returns:
        tuple[str, bool, bool]: The model; whether they are from its CAMs; and whether its own labels are made so, too,
        as those of a classifier are.
    """
    settings = (card.get('config') or {}).get('settings') or {}
    method, source = settings.get('model.type') or card['stage'], card['context'].get('source')
    if source != 'cam':
        return method, False, False
    made_from = 'pseudo_label.source'  # by its old name in cards of older runs
    own = settings.get(f'model.test_cfg.{made_from}') or settings.get(f'test_evaluator.{made_from}')
    recipes = [cls.label_recipe_of(None) for cls in find_classes(method) if hasattr(cls, 'label_recipe_of')]
    own = own or (recipes[0].source if recipes else 'cam')
    return method, True, own == 'cam'


def name_origins(rows: Sequence[dict], origins: Sequence[tuple[str, bool, bool]]) -> None:
    """Give each row of labels ``what`` (made it) and ``baseline`` (what it is of :data:`CLASSIFIER`, or None).

    Args:
        rows (list[dict]): Of the table; changed.
        origins (list[tuple]): :func:`origin_of` of each.
    """
    classifier = any(is_cam and is_own for _, is_cam, is_own in origins)
    methods = {method for method, is_cam, _ in origins if not is_cam}
    for row, (method, is_cam, is_own) in zip(rows, origins):
        row['what'], row['baseline'] = method, None
        if is_cam and is_own:
            row['what'], row['baseline'] = 'CAM of the classifier', CLASSIFIER
        elif is_cam and not classifier and method in methods:
            row['what'], row['baseline'] = f'CAM of the same network ({method})', SAME_NETWORK
        elif is_cam:
            row['what'] = f'CAM of {method}'


def add_label_gains(rows: Sequence[dict]) -> None:
    """Give each row of labels ``gain`` by split and ``over``, the stage of the baseline at the same budget, or None.

    Args:
        rows (list[dict]): With ``stage``, ``baseline``, ``scores``, ``context``, ``dcrf`` and ``sepl``; changed.
    """
    _add_gains(rows, _label_budget)


def add_network_gains(rows: Sequence[dict], labels: Sequence[dict]) -> None:
    """Give each network ``baseline``, and ``gain`` by score over the same network trained on the baseline's labels.

    Args:
        rows (list[dict]): With ``stage``, ``labels``, ``config``, ``scores`` and ``context``; changed.
        labels (list[dict]): Rows of the labels.
    """
    kinds = {row['stage']: row['baseline'] for row in labels}
    for row in rows:
        row['baseline'] = kinds.get(row['labels'])
    _add_gains(rows, _network_budget)


def gain_over(score: float | None, reference: float | None) -> dict | None:
    """``points`` and ``ratio`` of two scores in percent; None where one is missing."""
    if score is None or reference is None:
        return None
    return dict(points=round(score - reference, 4), ratio=round(score / reference, 4) if reference else None)


def gain_parts(row: Mapping, key: str) -> tuple[str, str]:
    """The gain of a row in points and as a ratio, ``+3.10`` and ``x 1.08``, or that the row is the reference.

    Args:
        row (dict): Of a table; of one that an older version wrote as well.
        key (str): Split or score.

    Returns:
        tuple[str, str]: Empty where there is none.
    """
    if row.get('baseline'):
        return REFERENCE, ''
    found = (row.get('gain') or {}).get(key)
    if found is None:
        return '', ''
    return f'{found["points"]:+.2f}', '' if found['ratio'] is None else f'x {found["ratio"]:.2f}'


def gain_cell(row: Mapping, key: str) -> str:
    """:func:`gain_parts` in one cell: ``+3.10 (x 1.08)``."""
    points, ratio = gain_parts(row, key)
    return f'{points} ({ratio})' if ratio else points


def row_name(row: Mapping) -> str:
    """What made the labels of a row, or a network learnt from, and that it is the plain baseline."""
    name = row.get('what') or row['labels']
    return f'{name} ({CLASSIFIER})' if row.get('baseline') == CLASSIFIER else name


def has_gains(rows: Sequence[Mapping]) -> bool:
    """Whether some row has a column of gains to show."""
    return any(row.get('baseline') or row.get('gain') for row in rows)


def baseline_notes(labels: Sequence[dict], choices: Mapping[str, dict]) -> list[str]:
    """What is to be known of the baseline, its threshold and the column of gains.

    Args:
        labels (list[dict]): Rows of the labels.
        choices (dict[str, dict]): How thresholds were chosen, by stage.
    """
    found = [row for row in labels if row['baseline']]
    if not found:
        return ['No plain baseline: this run has no labels from the CAMs of a classifier.'] if labels else []
    notes = [f'{_who(found[0])} Gain: points over it (and ratio) at the same scales, flip, dCRF and SEPL.']
    without = [row['stage'] for row in labels if not row['baseline'] and row['over'] is None]
    if without:
        notes.append(f'No baseline of the same scales, flip, dCRF and SEPL for {", ".join(without)}.')
    for row in found:
        choice = choices.get(row['stage'])
        if choice and choice['miou'] is None:
            notes.append(f'{row["stage"]}: {choice["split"]} has no masks, so its threshold is the fixed one.')
        elif choice:
            notes.append(
                f'{row["stage"]}: threshold {choice["threshold"]:g} is the best of {len(choice["curve"])} on '
                f'{choice["split"]} ({choice["pictures"]} pictures with masks; its CAMs have {cell(choice["miou"])} '
                'there), and that of every split.'
            )
        elif row['stage'] in [other['stage'] for other in found if not other['dcrf'] and not other['sepl']]:
            notes.append(f'{row["stage"]}: its threshold was fixed beforehand, not chosen with masks.')
    return notes


def _who(row):
    if row['baseline'] == CLASSIFIER:
        return 'Plain baseline: the CAMs of the classifier, and networks trained on them.'
    return f'In the place of a plain baseline: the {row["what"]}, for there is no classifier beside it.'


def _label_budget(row):
    """What the inference of labels costs: two rows of one budget are compared."""
    context = row['context']
    scales, flip = context.get('scales') or [1], bool(context.get('flip'))
    own = context.get('own_views')  # that the model averages by itself
    if own:
        scales, flip = [mine * other for mine in own['scales'] for other in scales], flip or own['flip']
    return sorted(map(float, scales)), flip, row['dcrf'], row['sepl']


def _network_budget(row):
    context = row['context']
    return row['config'], sorted(map(float, context.get('scales') or [1])), bool(context.get('flip'))


def _add_gains(rows, budget_of):
    """``gain`` and ``over`` of each row: against the best row of the baseline at its budget."""
    for row in rows:
        row['gain'], row['over'] = {}, None
    for row in rows:
        same = [other for other in rows if other['baseline'] and budget_of(other) == budget_of(row)]
        if row['baseline'] or not same:
            continue
        last = list(row['scores'])[-1]
        best = max(same, key=lambda other: other['scores'].get(last) or 0)
        gains = {key: gain_over(score, best['scores'].get(key)) for key, score in row['scores'].items()}
        row['gain'], row['over'] = {key: gain for key, gain in gains.items() if gain}, best['stage']
