"""The table of a pipeline in a page, and its best numbers."""

from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import is_number, percent, scales, stands_on, with_update
from csrm_plugin.report.page.markup import Html, table, tag
from csrm_plugin.report.paper.baseline import gain_cell, gain_parts, has_gains, row_name
from csrm_plugin.report.paper.published import DATASETS
from csrm_plugin.report.paper.table import table_of_cards
from csrm_plugin.report.paper.table_text import MARK, has_paper
from csrm_plugin.report.runs.knowledge import told
from csrm_plugin.report.runs.sources import Group


def table_section(group: Group, where: str = '') -> layout.Section:
    """The table of a pipeline; empty where it has none.

    Args:
        group (Group): With the cards of a pipeline.
        where (str): Behind the heading, to tell pipelines apart.
    """
    found = pipeline_table(group)
    return layout.Section(f'Table{where}', _table_content(found) if found else [])


def table_cards(group: Group) -> list[Html]:
    """Key numbers: the best labels, and the best network on labels."""
    found = pipeline_table(group) or {}
    return [card for card in (_best_labels(found), _best_network(found)) if card]


def pipeline_table(group: Group) -> dict | None:
    """The pipeline's own table, or what can be made of the cards of one that is not finished."""
    if group.table:
        return group.table
    return table_of_cards(group.cards)


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
    head, gains = ['Labels', 'dCRF', 'SEPL'], has_gains(found['labels'])
    for split in splits:
        head += [split, *(['Gain'] if gains else []), *([f'{split}, paper'] if paper else [])]
    rows = []
    for row in found['labels']:
        cells = [row_name(row), *(MARK[bool(row[key])] for key in ('dcrf', 'sepl'))]
        for split in splits:
            best = (row.get('best') or {}).get(split)
            text = f'best {percent(best["miou"])} at {best["threshold"]:g}' if best else None
            cells.append([percent(row['scores'].get(split)), tag('span', text, cls='context') if text else None])
            cells += [_gain(row, split)] if gains else []
            cells += [percent(row['paper'].get(split))] if paper else []
        rows.append([*cells, _knowledge(row), tag('span', with_update(stands_on(row['context']), row), cls='context')])
    caption = (
        f'Pseudo labels, mIoU in percent over all classes and the background (data set {found.get("dataset")}, seed '
        f'{found.get("seed")}), each row at one threshold. A best threshold was chosen with the masks.'
    )
    return table([*head, 'Knowledge', 'Stands on'], rows, caption, numeric=range(3, len(head)))


def _verification_table(rows):
    names = list(dict.fromkeys(name for row in rows for name in row['scores']))
    paper, gains = any(row['paper'] for row in rows), has_gains(rows)
    head = ['Network', 'Trained on']
    for name in names:
        head += [name, 'Gain'] if gains else [name]
    head += ['Paper'] if paper else []
    shown = []
    for row in rows:
        cells = [row['network'], row_name(row)]
        for name in names:
            cells += [percent(row['scores'].get(name))] + ([_gain(row, name)] if gains else [])
        cells += [percent(next(iter(row['paper'].values()), None))] if paper else []
        shown.append([*cells, _knowledge(row), with_update(scales(row['context'].get('scales')), row)])
    caption = (
        f'Networks trained on the labels, mIoU in percent on {rows[0]["split"]}, no labels given. True masks are the '
        'fully supervised upper bound.'
    )
    return table([*head, 'Knowledge', 'ms: scales'], shown, caption, numeric=range(2, len(head)))


def _gain(row, key):
    """The gain of a row, as a cell."""
    points, ratio = gain_parts(row, key)
    return [points, tag('span', ratio, cls='context') if ratio else None]


def _knowledge(row):
    """What a row knows, as a cell."""
    return tag('span', told(row.get('knowledge') or ()), cls='context brief')


def _best_labels(found):
    rows, splits = found.get('labels'), found.get('splits')
    if not rows:
        return None
    split = splits[0]
    row = max(rows, key=lambda row: row['scores'].get(split) or 0)
    how = ' + '.join(name for name, key in (('dCRF', 'dcrf'), ('SEPL', 'sepl')) if row[key])
    text = f'{row_name(row)}{" + " + how if how else ""}, {split}, seed {found.get("seed")}: '
    text += f'{stands_on(row["context"])}.{_gain_text(row, split)}'
    return layout.card('Best pseudo labels, mIoU', percent(row['scores'].get(split)), text)


def _best_network(found):
    rows = [row for row in found.get('verification') or () if row['labels'] != 'true masks' and row['scores']]
    if not rows:
        return None
    score, row, name = max(
        ((value, row, name) for row in rows for name, value in row['scores'].items() if is_number(value)),
        key=lambda found: found[0],
    )
    text = (
        f'{row["network"]} trained on {row_name(row)}, {row["split"]}, seed {found.get("seed")}: {name}; ms: scales '
        f'{scales(row["context"].get("scales"))}.{_gain_text(row, name)}'
    )
    return layout.card('Best network on labels, mIoU', percent(score), text)


def _gain_text(row, key):
    """A sentence on the gain of a row, behind others."""
    found = gain_cell(row, key)
    return f' Gain over the plain baseline: {found}.' if found and not row.get('baseline') else ''
