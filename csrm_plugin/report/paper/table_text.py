"""The table of a run for the terminal and as Markdown."""

import os.path as osp

from rich.console import Console
from rich.table import Table

from csrm_plugin.report.page.formats import scales, stands_on, with_update
from csrm_plugin.report.paper.baseline import gain_cell, gain_parts, has_gains, row_name
from csrm_plugin.report.runs.knowledge import told
from csrm_plugin.tracking.record import read_json
from csrm_plugin.utils.text import cell

#: Short forms for people.
MARK = {True: 'x', False: ''}
#: What makes the files of a run anew.
MEND = 'call tools/pipeline.py again'


def show_table(path: str, console: Console) -> None:
    """Print the table of a ``table.json``, and where it is for people."""
    print_table(read_json(path, MEND), console)
    console.print(f'Table: {osp.splitext(path)[0]}.md', highlight=False, soft_wrap=True)


def print_table(table: dict, console: Console) -> None:
    """Print the table in the terminal, which is narrow: numbers first, and below what the rows stand on."""
    rows, splits, paper = table['labels'], table['splits'], has_paper(table)
    gains, sepl = has_gains(rows), any(row['sepl'] for row in rows)
    head = ['labels', 'dCRF', *(['SEPL'] if sepl else [])]
    for split in splits:
        head += [split, *(['gain'] if gains else []), *([f'{split}, paper'] if paper else [])]
    cells = []
    for row in rows:
        cells.append([row_name(row), MARK[row['dcrf']], *([MARK[row['sepl']]] if sepl else [])])
        for split in splits:
            cells[-1] += [_score_cell(row, split)] + ([_points(row, split)] if gains else [])
            cells[-1] += [cell(row['paper'].get(split))] if paper else []
    title = f'Pseudo labels, mIoU in percent ({table["dataset"]}, seed {table["seed"]})'
    console.print(_numbered(title, head, cells, 3 if sepl else 2))
    console.print(_numbered('', ['knowledge', 'stands on'], [_basis(row, stands_on(row['context'])) for row in rows]))
    if table['verification']:
        _print_networks(table['verification'], console)
    for note in table['notes']:
        console.print(note, highlight=False)


def _print_networks(rows, console):
    """Scores of the networks that were trained on the labels."""
    names, gains, paper = _verification_columns(rows)
    head, cells = ['trained on'], [[row_name(row)] for row in rows]
    for name in names:
        head += [name.removeprefix('seg/mIoU ').replace('seg/', ''), *(['gain'] if gains else [])]
        for row, line in zip(rows, cells):
            line += [cell(row['scores'].get(name))] + ([_points(row, name)] if gains else [])
    if paper:
        head.append('paper')
        for row, line in zip(rows, cells):
            line.append(cell(next(iter(row['paper'].values()), None)))
    title = f'Networks trained on the labels, mIoU in percent on {rows[0]["split"]}'
    console.print(_numbered(title, head, cells, 1))
    basis = [[row['network'], *_basis(row, scales(row['context'].get('scales')))] for row in rows]
    console.print(_numbered('', ['network', 'knowledge', 'ms: scales'], basis))


def _points(row, key) -> str:
    """The gain in points; the reference is named in its row's first cell."""
    return '' if row.get('baseline') else gain_parts(row, key)[0]


def _numbered(title, head, rows, words=None):
    """A table for the terminal with numbered rows; the columns behind the first ``words`` hold numbers."""
    shown = Table(title=title or None)
    for index, name in enumerate(['', *head]):
        number = words is not None and index > words
        # No word of a name is broken.
        longest = max((len(word) for row in rows for word in row[0].split()), default=0) if index == 1 else None
        shown.add_column(name, justify='right' if number else 'left', overflow='fold', min_width=longest)
    for number, row in enumerate(rows, start=1):
        shown.add_row(str(number), *row)
    return shown


def _basis(row, text) -> list[str]:
    """Cells on what a row knows, stands on and cost."""
    return [told(row.get('knowledge') or ()), with_update(text, row)]


def has_paper(table: dict) -> bool:
    """Whether the paper has figures for some label row."""
    return any(value is not None for row in table['labels'] for value in row['paper'].values())


def _score_cell(row, split):
    best, score = row['best'].get(split), cell(row['scores'][split])
    return score if best is None else f'{score} (best {cell(best["miou"])} at {best["threshold"]:g})'


def _verification_head(rows) -> list[str]:
    """Names of the columns: network and labels, numbers, and what the rows stand on in the last two."""
    names, gains, paper = _verification_columns(rows)
    head = ['network', 'trained on']
    for name in names:
        head += [name, 'gain'] if gains else [name]
    head += ['paper'] if paper else []
    return [*head, 'knowledge', 'ms: scales']


def _verification_cells(row, rows) -> list[str]:
    names, gains, paper = _verification_columns(rows)
    cells = [row['network'], row_name(row)]
    for name in names:
        cells += [cell(row['scores'].get(name))] + ([gain_cell(row, name)] if gains else [])
    cells += [cell(next(iter(row['paper'].values()), None))] if paper else []
    return [*cells, *_basis(row, scales(row['context'].get('scales')))]


def _verification_columns(rows) -> tuple[list[str], bool, bool]:
    """Names of the scores; whether gains, and whether figures of the paper stand beside them."""
    names = list(dict.fromkeys(name for row in rows for name in row['scores']))
    return names, has_gains(rows), any(row['paper'] for row in rows)


def table_markdown(table: dict) -> str:
    """The table as Markdown, with the notes that its numbers stand on."""
    lines = [f'# {table["run"]}', '', '## Pseudo labels', '', *_label_lines(table)]
    rows = table['verification']
    if rows:
        cells = [_verification_cells(row, rows) for row in rows]
        lines += ['', f'## Networks trained on the labels, {rows[0]["split"]}', '']
        lines += [*_markdown_head(_verification_head(rows)), *map(_markdown_row, cells)]
    return '\n'.join([*lines, '', *(f'- {note}' for note in table['notes'])]) + '\n'


def _label_lines(table):
    splits, paper, gains = table['splits'], has_paper(table), has_gains(table['labels'])
    head = ['labels', 'dCRF', 'SEPL']
    for split in splits:
        head += [split, *(['gain'] if gains else []), *([f'{split}, paper'] if paper else [])]
    lines = _markdown_head([*head, 'knowledge', 'stands on'])
    for row in table['labels']:
        cells = [row_name(row), MARK[row['dcrf']], MARK[row['sepl']]]
        for split in splits:
            cells += [_score_cell(row, split)] + ([gain_cell(row, split)] if gains else [])
            cells += [cell(row['paper'].get(split))] if paper else []
        lines.append(_markdown_row([*cells, *_basis(row, stands_on(row['context']))]))
    return lines


def _markdown_head(cells):
    return [_markdown_row(cells), _markdown_row(['---'] * len(cells))]


def _markdown_row(cells):
    return f'| {" | ".join(cells)} |'
