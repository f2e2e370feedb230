"""The stages of a pipeline: what each scored and cost, and which are not done."""

from collections.abc import Sequence

from csrm_plugin.report.charts import Series, bar_chart
from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import (
    NONE,
    count,
    duration,
    is_number,
    memory,
    number,
    percent,
    score_context,
    score_name,
)
from csrm_plugin.report.page.markup import Html, Ids, table, tag
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.sources import Group
from csrm_plugin.report.runs.validations import scores_of

#: States that have a colour.
_STATES = ('done', 'failed', 'interrupted', 'running')


def stage_sections(ids: Ids, group: Group, where: str = '') -> list[layout.Section]:
    """Scores of the trainings, and stages with their cost.

    Args:
        ids (Ids): Of the page.
        group (Group): With the cards of a pipeline.
        where (str): Behind the headings, to tell pipelines apart.
    """
    return [
        layout.Section(f'Trained stages{where}', [_stage_scores(group)]),
        layout.Section(f'Stages and their cost{where}', _stages(ids, group)),
    ]


def stage_cards(group: Group) -> list[Html]:
    """Key numbers: the time of all stages, and the highest peak of memory."""
    shown = []
    seconds = [seconds for seconds in map(_seconds, group.cards) if seconds is not None]
    if seconds:
        slowest = max(group.cards, key=lambda card: _seconds(card) or 0)
        text = f'{count(len(seconds), "stage")}; the longest is {slowest["stage"]} with {duration(_seconds(slowest))}.'
        shown.append(layout.card('Time', duration(sum(seconds)), text))
    peaks = [(card.get('memory') or {}).get('peak_mib') for card in group.cards]
    if any(map(is_number, peaks)):
        top = max(filter(is_number, peaks))
        text = f'Of a process, in {group.cards[peaks.index(top)]["stage"]}.'
        shown.append(layout.card('Peak memory', memory(top), text))
    return shown


def stage_notices(group: Group) -> list[str]:
    """Stages that are not done."""
    return [f'Stage {card["stage"]}: {card["status"]}.' for card in group.cards if card['status'] != 'done']


def lead(group: Group, runs: Sequence[Run]) -> str:
    """The first sentence of a report on a pipeline alone."""
    first = group.cards[0]
    done = sum(card['status'] == 'done' for card in group.cards)
    seeds = ', '.join(dict.fromkeys(str(card['seed']) for card in group.cards if card.get('seed') is not None))
    return (
        f'Pipeline {first["run"]}, data set {first.get("dataset") or "not recorded"}, seed {seeds or "not recorded"}: '
        f'{done} of {count(len(group.cards), "stage")} done, {count(len(runs), "training")} among them.'
    )


def _stage_scores(group):
    rows = []
    for card in group.cards:
        if card['kind'] != 'train' or not card.get('scores'):
            continue
        rows.append(card['stage'])
        for split, scores in card['scores'].items():
            for metric, value in scores_of(scores).items():
                text = score_context(metric, {'split': split, **(card.get('context') or {})}, scores)
                text += f', seed {card.get("seed", "not recorded")}'
                rows.append([score_name(metric), percent(value), tag('span', text, cls='context')])
    caption = 'Scores of the checkpoints that the later stages stand on, in percent.'
    return table(['Score', 'Value', 'Stands on'], rows, caption, numeric=(1,)) if rows else None


def _stages(ids, group):
    rows = []
    for card in group.cards:
        used, time = card.get('memory') or {}, card.get('time') or {}
        rate = time.get('images_per_second')
        rows.append(
            [
                card['stage'],
                layout.state(card['status'], _STATES),
                duration(_seconds(card)),
                number(rate),
                memory(used.get('peak_mib')),
                memory(used.get('peak_gpu_mib')),
                _machine(card),
            ]
        )
    head = ['Stage', 'State', 'Time', 'Images per second', 'Peak memory', 'Peak GPU memory', 'Machine']
    content = [table(head, rows, 'What each stage cost.', numeric=range(2, 6))]
    timed = [card for card in group.cards if _seconds(card) is not None]
    if timed:
        minutes = Series('time', [], [_seconds(card) / 60 for card in timed], 0)
        names = [card['stage'] for card in timed]
        chart = bar_chart(ids, names, [minutes], 'Time per stage', 'minutes', lambda value: duration(60 * value))
        content.append(tag('figure', tag('h3', 'Time per stage'), chart, cls='medium'))
    return content


def _seconds(card):
    seconds = (card.get('time') or {}).get('seconds')
    return seconds if is_number(seconds) else None


def _machine(card):
    host = card.get('host') or {}
    gpus = ', '.join(map(str, host.get('gpus') or ()))
    return gpus or (count(host['cpus'], 'core') if is_number(host.get('cpus')) else NONE)
