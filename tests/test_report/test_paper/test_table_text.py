import io

from rich.console import Console

from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.report.paper.table import table_rows
from csrm_plugin.report.paper.table_text import print_table, show_table, table_markdown
from csrm_plugin.utils import write_json


def test_the_table_reads_well(cards, root):
    table = table_rows(load_recipe('voc', str(root)), cards)
    text = table_markdown(table)
    scores = '59.90 (best 60.50 at 0.3) | baseline | 59.90 | 59.80 | baseline | 59.80'
    views, known = 'scales 0.5 1 1.5 2, flip, no dCRF', 'image labels'
    assert f'| CAM of the classifier (plain baseline) |  |  | {scores} | {known} | CAM at 0.35, {views} |' in text
    gains = '70.00 | +10.10 (x 1.17) | 71.80 | 68.00 | +8.20 (x 1.14) | 69.80'
    assert f'| CSRM |  |  | {gains} | {known} | segmentation, teacher, {views} |' in text
    # No network was trained on the baseline's labels, and what CSRM's were made with is not among the cards.
    assert '| deeplabv2 | labels_csrm_crf | 66.60 | 68.00 | 69.80 |  | 1 2 |' in text
    assert 'chosen with the masks of its own split' in text and 'seed 0' in text
    assert 'labels_cam: its threshold was fixed beforehand' in text
    out = io.StringIO()
    print_table(table, Console(file=out, width=200))
    shown = ' '.join(out.getvalue().split())
    assert all(text in shown for text in ('59.90 (best', '60.50 at 0.3)', '71.80', '+10.10', 'image'))


def test_a_table_of_a_file_is_shown_with_its_place(cards, root, tmp_path):
    write_json(tmp_path / 'table.json', table_rows(load_recipe('voc', str(root)), cards))
    out = io.StringIO()
    show_table(str(tmp_path / 'table.json'), Console(file=out, width=200))
    assert '71.80' in out.getvalue() and out.getvalue().rstrip().endswith(f'Table: {tmp_path}/table.md')


def test_a_narrow_terminal_loses_no_word(cards, root):
    """Numbers first, and below what the rows stand on: nothing is cut short."""
    out = io.StringIO()
    print_table(table_rows(load_recipe('msrc', str(root)), cards), Console(file=out, width=80))
    text = out.getvalue()
    assert '\u2026' not in text and all(len(line) <= 80 for line in text.splitlines())
    assert all(word in text for word in ('knowledge', 'stands on', 'baseline', '+10.10', 'trained on'))


def test_a_table_of_an_older_version_is_shown_too(cards, root):
    """Without gains and knowledge."""
    table = table_rows(load_recipe('voc', str(root)), cards)
    for row in (*table['labels'], *table['verification']):
        for key in ('gain', 'over', 'baseline', 'knowledge'):
            del row[key]
    text = table_markdown(table)
    assert '| CSRM |  |  | 70.00 | 71.80 | 68.00 | 69.80 |  | segmentation' in text and 'gain' not in text
    print_table(table, Console(file=io.StringIO()))
