import numpy as np
import pytest
from PIL import Image

from csrm_plugin.visualization import Panel, draw_row, draw_sheet, save_picture
from csrm_plugin.visualization.sheet import FONT_SIZE, _font, wrap

BLUE = np.full((10, 20, 3), (10, 20, 200), dtype=np.uint8)


def count(picture, colour):
    return int((picture == np.array(colour, dtype=np.uint8)).all(axis=2).sum())


def test_a_row_holds_every_picture_at_the_width_asked_for():
    row = draw_row([Panel(BLUE, 'one'), Panel(np.zeros((40, 20, 3), dtype=np.uint8))], width=60)
    assert count(row, (10, 20, 200)) == 60 * 30
    assert count(row, (0, 0, 0)) == 60 * 120
    assert row.shape[1] > 2 * 60


def test_captions_are_drawn_and_grow_downwards():
    bare, short, long = (draw_row([Panel(BLUE, text)], width=80) for text in ('', 'word', 'many words ' * 8))
    assert bare.shape[1] == short.shape[1] == long.shape[1]
    assert bare.shape[0] < short.shape[0] < long.shape[0]
    dark = (short[-25:].max(axis=2) < 100).sum()
    assert dark > FONT_SIZE, 'there is ink below the picture'


def test_wrap_keeps_all_words_within_the_width():
    text = 'labels: crate, gear\nnothing pasted into this picture of the batch'
    lines = wrap(text, 90)
    assert ' '.join(lines).split() == text.split()
    assert all(_font().getlength(line) <= 90 for line in lines)
    assert wrap('', 90) == []


def test_wrap_cuts_long_words_in_the_middle():
    (line,) = wrap('/a/very/long/folder/that/never/ends/epoch_40.pth', 120)
    assert '...' in line and line.endswith('.pth') and _font().getlength(line) <= 120


def test_sheet_has_title_legend_and_rows():
    rows = [[Panel(BLUE, 'a'), Panel(BLUE, 'b')]] * 3
    plain = draw_sheet(rows, width=64)
    full = draw_sheet(rows, 'a title', [('kite', (250, 130, 20)), ('tent', (20, 130, 250))], width=64)
    assert count(plain, (10, 20, 200)) == count(full, (10, 20, 200)) == 6 * 64 * 32
    assert count(full, (250, 130, 20)) > 50 and count(full, (20, 130, 250)) > 50
    assert full.shape[0] > plain.shape[0]


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match='panel'):
        draw_row([])
    with pytest.raises(ValueError, match='row'):
        draw_sheet([])


def test_save_picture(tmp_path):
    save_picture(tmp_path / 'new' / 'x.png', BLUE)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'new' / 'x.png')), BLUE)
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['x.png'], 'no temporary file is left'
