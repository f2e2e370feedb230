"""The part of a report that is about a pipeline: its table, its stages, and what each cost."""

import os.path as osp
from types import SimpleNamespace

from csrm_plugin.report import page
from csrm_plugin.report.charts import Series, bar_chart
from csrm_plugin.report.formats import (
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
from csrm_plugin.report.markup import Html, table, tag
from csrm_plugin.report.paper.published import DATASETS
from csrm_plugin.report.paper.table import LABEL_KINDS, MARK, has_paper, stands_on, table_rows
from csrm_plugin.report.sources import scores_of


def pipeline_table(group) -> dict | None:
    """The pipeline's own table, or what can be made of the cards of one that is not finished."""
    if group.table:
        return group.table
    done = [card for card in group.cards if _is_scored(card)]
    splits = [split for card in done if card['kind'] in LABEL_KINDS for split in card['scores']]
    if not done or not splits:
        return None
    recipe = SimpleNamespace(
        name=done[0]['run'],
        dataset=done[0].get('dataset'),
        seed=done[0].get('seed'),
        splits=tuple(dict.fromkeys(splits)),
    )
    return table_rows(recipe, done)


def sections(ids, group, several: bool) -> list[page.Section]:
    """Table, scores of the trainings, stages and their cost."""
    where = f' of {osp.basename(osp.abspath(group.folder))}' if several else ''
    found = pipeline_table(group)
    return [
        page.Section(f'Table{where}', _table_content(found) if found else []),
        page.Section(f'Trained stages{where}', [_stage_scores(group)]),
        page.Section(f'Stages and their cost{where}', _stages(ids, group)),
    ]


def cards(group) -> list:
    """Key numbers: the best labels, the best network on labels, the time."""
    found = pipeline_table(group) or {}
    shown = [_best_labels(found), _best_network(found)]
    seconds = [seconds for seconds in map(_seconds, group.cards) if seconds is not None]
    if seconds:
        slowest = max(group.cards, key=lambda card: _seconds(card) or 0)
        text = f'{count(len(seconds), "stage")}; the longest is {slowest["stage"]} with {duration(_seconds(slowest))}.'
        shown.append(page.card('Time', duration(sum(seconds)), text))
    peaks = [(card.get('memory') or {}).get('peak_mib') for card in group.cards]
    if any(map(is_number, peaks)):
        top = max(filter(is_number, peaks))
        shown.append(
            page.card('Peak memory', memory(top), f'Of a process, in {group.cards[peaks.index(top)]["stage"]}.')
        )
    return [card for card in shown if card]


def notices(group) -> list[str]:
    """Stages that are not done."""
    return [f'Stage {card["stage"]}: {card["status"]}.' for card in group.cards if card['status'] != 'done']


def lead(group, runs) -> str:
    """The first sentence."""
    first = group.cards[0]
    done = sum(card['status'] == 'done' for card in group.cards)
    seeds = ', '.join(dict.fromkeys(str(card['seed']) for card in group.cards if card.get('seed') is not None))
    return (
        f'Pipeline {first["run"]}, data set {first.get("dataset") or "not recorded"}, seed {seeds or "not recorded"}: '
        f'{done} of {count(len(group.cards), "stage")} done, {count(len(runs), "training")} among them.'
    )


def _is_scored(card):
    return card['status'] == 'done' and bool(card.get('scores')) and bool(card.get('context'))


def _table_content(found):
    content = []
    if found.get('labels'):
        content.append(_label_table(found))
    if found.get('verification'):
        content.append(_verification_table(found['verification']))
    if not has_paper(found):
        text = f'No published figure for {found.get("dataset")}: the paper reports VOC 2012 and COCO 2014.'
        if found.get('dataset') in DATASETS:
            text = 'No published figure for these labels.'
        content.append(tag('p', text, cls='note'))
    return [*content, tag('ul', [tag('li', note) for note in found.get('notes') or ()], cls='note')]


def _label_table(found):
    splits, paper = found['splits'], has_paper(found)
    head = ['Labels', 'dCRF', 'SEPL']
    for split in splits:
        head += [split, f'{split}, paper'] if paper else [split]
    rows = []
    for row in found['labels']:
        cells = [row['what'], *(MARK[bool(row[key])] for key in ('dcrf', 'sepl'))]
        for split in splits:
            best = (row.get('best') or {}).get(split)
            text = f'best {percent(best["miou"])} at {best["threshold"]:g}' if best else None
            cells.append([percent(row['scores'].get(split)), tag('span', text, cls='context') if text else None])
            cells += [percent(row['paper'].get(split))] if paper else []
        rows.append([*cells, tag('span', stands_on(row['context']), cls='context')])
    caption = (
        f'Pseudo labels, mIoU in percent over all classes and the background (data set {found.get("dataset")}, seed '
        f'{found.get("seed")}), at fixed thresholds. A best threshold was chosen with the masks.'
    )
    return table([*head, 'Stands on'], rows, caption, numeric=range(3, len(head)))


def _verification_table(rows):
    names = list(dict.fromkeys(name for row in rows for name in row['scores']))
    paper = any(row['paper'] for row in rows)
    head = ['Network', 'Trained on', *names, *(['Paper'] if paper else []), 'ms: scales']
    shown = []
    for row in rows:
        cells = [row['network'], row['labels'], *(percent(row['scores'].get(name)) for name in names)]
        cells += [percent(next(iter(row['paper'].values()), None))] if paper else []
        scales = ' '.join(f'{scale:g}' for scale in row['context'].get('scales') or [1])
        shown.append([*cells, scales])
    caption = (
        f'Networks trained on the labels, mIoU in percent on {rows[0]["split"]}, no labels given. True masks are the '
        'fully supervised upper bound.'
    )
    return table(head, shown, caption, numeric=range(2, len(head) - 1))


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
                _state(card['status']),
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


def _state(status) -> Html:
    known = status if status in ('done', 'failed', 'interrupted', 'running') else ''
    return tag('span', status, cls=f'state {known}'.strip())


def _machine(card):
    host = card.get('host') or {}
    gpus = ', '.join(map(str, host.get('gpus') or ()))
    return gpus or (count(host['cpus'], 'core') if is_number(host.get('cpus')) else NONE)


def _best_labels(found):
    rows, splits = found.get('labels'), found.get('splits')
    if not rows:
        return None
    split = splits[0]
    row = max(rows, key=lambda row: row['scores'].get(split) or 0)
    how = ' + '.join(name for name, key in (('dCRF', 'dcrf'), ('SEPL', 'sepl')) if row[key])
    text = f'{row["what"]}{" + " + how if how else ""}, {split}, seed {found.get("seed")}: {stands_on(row["context"])}.'
    return page.card('Best pseudo labels, mIoU', percent(row['scores'].get(split)), text)


def _best_network(found):
    rows = [row for row in found.get('verification') or () if row['labels'] != 'true masks' and row['scores']]
    if not rows:
        return None
    score, row, name = max(
        ((value, row, name) for row in rows for name, value in row['scores'].items() if is_number(value)),
        key=lambda found: found[0],
    )
    text = (
        f'{row["network"]} trained on {row["labels"]}, {row["split"]}, seed {found.get("seed")}: {name}; ms: scales '
        f'{" ".join(f"{scale:g}" for scale in row["context"].get("scales") or [1])}.'
    )
    return page.card('Best network on labels, mIoU', percent(score), text)
