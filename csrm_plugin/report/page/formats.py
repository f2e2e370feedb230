"""How numbers, times and settings are written in a report, the same everywhere."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence

from csrm_plugin.tracking.record import has_note
from csrm_plugin.utils.label_sources import describe_source
from csrm_plugin.utils.text import whose_weights

#: What stands where there is no value.
NONE = '\u2013'

#: Names of scores for people. Other scores go by their keys.
SCORE_NAMES = {
    'seg/mIoU': 'Segmentation mIoU',
    'pseudo/mIoU': 'Pseudo-label mIoU',
    'cam/mIoU': 'CAM mIoU',
    'cls/mAP': 'Classification mAP',
    'affinity/AUC': 'Affinity AUC',
}


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float (and no bool)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: float | None, missing: str = NONE) -> str:
    """A value in percent, with one decimal: ``43.2%``; ``missing`` for what is no number."""
    return f'{value:.1f}%' if is_number(value) else missing


def number(value: float | None) -> str:
    """A number with at most four significant digits, thousands set apart."""
    if not is_number(value):
        return NONE
    if value == int(value) and abs(value) < 1e15:
        return f'{int(value):,}'.replace(',', '\u202f')
    return f'{value:.4g}'


def score_name(metric: str) -> str:
    """Name of a score for people."""
    return SCORE_NAMES.get(metric, metric)


def duration(seconds: float | None) -> str:
    """``41 s``, ``3 min 41 s`` or ``2 h 05 min``."""
    if not is_number(seconds):
        return NONE
    if seconds < 10:
        return f'{seconds:.1f} s'
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60:02d} s'
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60:02d} min'


def memory(mebibytes: float | None) -> str:
    """``812 MiB`` or ``3.2 GiB``."""
    if not is_number(mebibytes):
        return NONE
    return f'{mebibytes:.0f} MiB' if mebibytes < 1024 else f'{mebibytes / 1024:.1f} GiB'


def count(amount: int, word: str) -> str:
    """``1 run``, ``3 runs``, ``2 processes``."""
    plural = f'{word[:-1]}ies' if word.endswith('y') else word + ('es' if word.endswith('s') else 's')
    return f'{number(amount)} {word if amount == 1 else plural}'


def moment(text: str | None) -> str:
    """An ISO time to the minute, ``2026-11-22 19:26 UTC``; what is none stays as it is."""
    if not isinstance(text, str) or len(text) < 16 or 'T' not in text:
        return str(text) if text else NONE
    zone = ' UTC' if text.endswith(('Z', '+00:00')) else ''
    return f'{text[:10]} {text[11:16]}{zone}'


def setting(value: object) -> str:
    """The value of a setting, as JSON but for strings."""
    if isinstance(value, str):
        return value or "''"
    return json.dumps(value, default=str)


def short_setting(value: object) -> str:
    """The value of a setting as the cell of a table: of a number, four digits do."""
    return number(value) if isinstance(value, float) else setting(value)


def option(key: str, value: object) -> str:
    """``key=value`` as ``--cfg-options`` reads it, quoted for a shell where that is needed."""
    text = value if isinstance(value, str) else _option_value(value)
    if isinstance(value, str) and ',' in value:
        text = f"'{value}'"
    return shlex.quote(f'{key}={text}')


def _option_value(value):
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return f'[{",".join(map(_option_value, value))}]'
    return str(value)


def stands_on(context: Mapping) -> str:
    """What a score stands on, in one line: source, threshold, whose weights, scales, flip, dCRF."""
    source = describe_source(context.get('source'), context.get('threshold'))
    parts = [source, context.get('weights') or '', context.get('segmentation') or '']
    shown = scales(context.get('scales'))
    parts.append(f'{"scale" if len(context.get("scales") or [1]) == 1 else "scales"} {shown}')
    parts.append('flip' if context.get('flip') else 'no flip')
    parts.append('dCRF' if context.get('crf') else 'no dCRF')
    if context.get('sepl'):
        parts.append(f'masks: {context["sepl"].get("masks")}')
    if context.get('tiled_pictures'):
        parts.append(f'{context["tiled_pictures"]} pictures cut into tiles')
    return ', '.join(part for part in parts if part)


def with_update(text: str, row: Mapping) -> str:
    """What a row of a table stands on, and what an update of its training cost, where that is known.

    Example:
        >>> with_update('dCRF', dict(update=dict(seconds=2.13, pictures=8)))
        'dCRF, training 2.1 s an update of 8'
    """
    update = row.get('update')
    return f'{text}, training {update["seconds"]:.2g} s an update of {update["pictures"]}' if update else text


def scales(factors: Sequence[float] | None) -> str:
    """Scales of a picture, ``0.5 1 1.5``; ``1`` where none are given."""
    return ' '.join(f'{factor:g}' for factor in factors or [1])


def score_context(metric: str, context: Mapping, metrics: Mapping) -> str:
    """What a score of a validation stands on: split, source, threshold, scales, flip, dCRF, whose weights.

    Args:
        metric (str): Key of the score, for example ``cam/mIoU``.
        context (dict): Of the validation; empty where the run left no record.
        metrics (dict): All scores of the same validation, for the threshold.
    """
    part = metric.split('/')[0]
    parts = [context.get('split') or 'split not recorded']
    if is_number(context.get('pictures')):
        parts.append(count(context['pictures'], 'picture'))
    if part == 'cam':
        if is_number(metrics.get('cam/threshold')):
            parts.append(f'best threshold {metrics["cam/threshold"]:g}, chosen with the masks')
        parts.append('classes restricted to the image labels')
    elif part == 'pseudo':
        parts += [*_pseudo_source(context), 'classes restricted to the image labels']
    elif part == 'seg':
        parts.append('no labels given')
    elif part == 'affinity':
        parts.append('area under the ROC curve: pairs of positions of one class against those of two, by the masks')
    if has_note(part, context):
        parts.append(context['segmentation'])
    if context:
        shown = stands_on({key: context.get(key) for key in ('scales', 'flip', 'crf')})
        parts += [shown, *_weights(context)]
    return ', '.join(parts)


def _pseudo_source(context):
    source = context.get('pseudo_label') or {}
    name, threshold = describe_source(source.get('source')), source.get('threshold')
    if name and is_number(threshold):
        return [f'{name} at the fixed threshold {threshold:g}']
    return [f'from the {name}'] if name else []


def _weights(context):
    weights = context.get('weights')
    return [whose_weights(weights)] if weights else []
