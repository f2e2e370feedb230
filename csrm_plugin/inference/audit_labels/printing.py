"""An audit as tables and lines of text."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from csrm_plugin.inference.audit_labels.settings import TITLES, Views
from csrm_plugin.utils.text import cell

#: Columns of the table of settings: title and where the score is.
COLUMNS = (
    ('labelled', ('coverage',)),
    ('mIoU', ('miou',)),
    ('fg precision', ('foreground', 'precision')),
    ('(any class)', ('foreground', 'precision_any')),
    ('fg recall', ('foreground', 'recall')),
    ('(any class)', ('foreground', 'recall_any')),
    ('bg precision', ('background', 'precision')),
    ('bg recall', ('background', 'recall')),
)


def print_audit(report: dict, console: Console) -> None:
    """Print what :func:`csrm_plugin.inference.audit_labels.audit_labels` found."""
    console.print(_settings_table(report))
    console.print(_class_table(report))
    for line in audit_lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _settings_table(report) -> Table:
    """One row for each setting."""
    context, marks = report['context'], _marks(report)
    views = Views(context['scales'], context['flip'])
    table = Table(title=f'labels from CAMs of {views.title()} against masks, percent')
    for title in ('refined', 'fg', 'bg'):
        table.add_column(title)
    for title, _ in COLUMNS:
        table.add_column(title, justify='right')
    table.add_column('', no_wrap=True)
    before = None
    for place, row in enumerate(report['settings']):
        kind = (row['scales'], row['flip'], row['refine'])
        if before is not None and kind != before:
            table.add_section()
        before = kind
        how = (TITLES[row['refine']], f'{row["fg_threshold"]:g}', f'{row["bg_threshold"]:g}')
        style = 'bold' if place in marks else ''
        table.add_row(*how, *(cell(_score(row, path)) for _, path in COLUMNS), marks.get(place, ''), style=style)
    return table


def _score(row, path) -> float | None:
    for name in path:
        row = row[name]
    return row


def _marks(report) -> dict[int, str]:
    """What is said beside a row, by its place."""
    marks: dict[int, list[str]] = {}
    for rank, choice in enumerate(report['recommended']):
        how = 'unrefined' if choice['refine'] == 'none' else f'with {TITLES[choice["refine"]]}'
        marks.setdefault(choice['setting'], []).append('* recommended' if rank == 0 else f'* {how}')
    if report['config'] is not None:
        context, row = report['context'], report['settings'][report['config']]
        text = "config's" if context['config_exact'] else "config's, unrefined"
        if (row['scales'], row['flip']) != (context['scales'], context['flip']):
            text += f', {Views(row["scales"], row["flip"]).title()}'
        marks.setdefault(report['config'], []).append(text)
    return {place: ', '.join(texts) for place, texts in marks.items()}


def _class_table(report) -> Table:
    """Scores of each class, of the recommended setting and of the config's own."""
    columns = {}
    if report['recommended']:
        columns['recommended'] = report['recommended'][0]['setting']
    if report['config'] is not None and report['config'] not in columns.values():
        columns["config's"] = report['config']
    table = Table(title=', '.join(f'{name}: {_short(report["settings"][place])}' for name, place in columns.items()))
    table.add_column('class, percent')
    keys = ('iou', 'precision', 'recall')
    for name in columns:
        for title in ('IoU', 'precision', 'recall'):
            table.add_column(f'{name}\n{title}', justify='right')
    for name in report['context']['classes']:
        scores = (report['settings'][place][key][name] for place in columns.values() for key in keys)
        table.add_row(escape(name), *map(cell, scores))
    return table


def _short(row) -> str:
    return f'{row["fg_threshold"]:g} / {row["bg_threshold"]:g} {TITLES[row["refine"]]}'


def describe_setting(row: dict) -> str:
    """A setting of a report in a few words, as in ``'fg 0.5, bg 0.3, dCRF, scales 1 without flip'``."""
    refined = 'not refined' if row['refine'] == 'none' else TITLES[row['refine']]
    views = Views(row['scales'], row['flip']).title()
    return f'fg {row["fg_threshold"]:g}, bg {row["bg_threshold"]:g}, {refined}, {views}'


def audit_lines(report: dict) -> list[str]:
    """What the tables stand on, and what is recommended, one line each."""
    context, lines = report['context'], []
    weights = context['weights'] + (f' ({context["weights_from"]})' if 'weights_from' in context else '')
    of = context['pictures_of_split']
    lines += [
        f'stands on: {context["pictures"]} pictures with masks, of the {of} of the split {context["split"]}; '
        f'labels at a stride of {context["stride"]}, counted at the size of the masks',
        f'config: {context["config"]}, checkpoint: {context["checkpoint"]} (sha256 '
        f'{context["checkpoint_sha256"][:12]}), weights: {weights}',
        'labelled: pixels with a certain label; mIoU and precision over those, recall over all. fg precision: of the '
        'pixels labelled with a class, those of that class (any class: those of any)',
    ]
    for rank, choice in enumerate(report['recommended']):
        name = 'recommended' if rank == 0 else 'next'
        lines.append(f'{name}: {describe_setting(report["settings"][choice["setting"]])}: {choice["reason"]}')
        if rank == 0 and choice['close']:
            rows = [report['settings'][place] for place in choice['close']]
            pairs = ', '.join(f'{row["fg_threshold"]:g} / {row["bg_threshold"]:g}' for row in rows)
            lines.append(f'within a point of it: {pairs}')
    if report['config'] is not None:
        row = report['settings'][report['config']]
        lines.append(
            f'the config itself: {describe_setting(row)}: mIoU {cell(row["miou"])} % on {cell(row["coverage"])} % of '
            'the pixels'
        )
    lines += [f'caution: {text}' for text in report['cautions']]
    lines.append(
        f'Chosen with the masks of {context["pictures"]} pictures: an evaluation, and no result that one could have '
        'had without masks.'
    )
    return lines
