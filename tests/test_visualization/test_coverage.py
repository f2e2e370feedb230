import pytest
from PIL import Image

from csrm_plugin.utils import UserError
from csrm_plugin.visualization.coverage import coverage_figure, save_coverage_plot


def point(fg, bg, coverage, miou):
    return dict(fg=fg, bg=bg, coverage=coverage, miou=miou, precision=60.0, recall=None)


POINTS = [point(0.5, 0.3, 80, 50), point(0.5, 0.1, 60, 55), point(0.7, 0.1, 40, 62), point(0.7, 0.2, 45, None)]
PANELS = [dict(title='plain_$', points=POINTS), dict(title='with dCRF', points=POINTS[:2])]


def test_a_line_for_each_fg_and_a_point_for_each_bg():
    mark = dict(point(0.5, 0.3, 80, 50), panel=0, label='recommended', marker='*')
    nowhere = dict(point(0.5, 0.3, 80, None), panel=0, label='nowhere', marker='s')
    figure = coverage_figure(PANELS, least=70, title='a_b $', marks=[mark, nowhere])
    first, second = figure.axes
    lines = {line.get_label(): line for line in first.lines}
    low = lines['fg 0.5: precision 60.00 %, recall - %']
    assert list(low.get_xdata()) == [60, 80] and list(low.get_ydata()) == [55, 50], 'ascending by bg'
    assert list(lines['fg 0.7: precision 60.00 %, recall - %'].get_xdata()) == [40], 'undefined points are left out'
    assert list(lines['recommended'].get_ydata()) == [50] and 'nowhere' not in lines
    assert [text.get_text() for text in first.texts] == ['0.1', '0.3', '0.1']
    assert 70 in [line.get_xdata()[0] for line in first.lines]
    assert second.get_title() == 'with dCRF' and not any(line.get_label() == 'recommended' for line in second.lines)


def test_the_file_and_its_endings(tmp_path):
    save_coverage_plot(tmp_path / 'new' / 'x.png', PANELS)
    assert Image.open(tmp_path / 'new' / 'x.png').width > 500
    with pytest.raises(UserError, match=r'must end in one of \.png'):
        save_coverage_plot(tmp_path / 'x.gif', PANELS)
    with pytest.raises(ValueError, match='at least one panel'):
        save_coverage_plot(tmp_path / 'x.png', [])
    assert not (tmp_path / 'x.gif').exists() and not (tmp_path / 'x.png').exists()
