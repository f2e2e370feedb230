import pytest

from csrm_plugin.report.charts.canvas import FEW, drawing, plot_line, short, style_axes
from csrm_plugin.report.page.palette import STAND_INS


def test_long_texts_keep_their_two_ends():
    assert short('model', 14) == 'model'
    text = short('model.pseudo_label.fg_threshold', 14)
    assert len(text) == 14 and text.startswith('model.') and text.endswith('eshold') and '\u2026' in text


def test_charts_side_by_side_are_in_line():
    places = []
    for title in ('', 'mIoU, %'):
        with drawing(400, 225, fit=False) as (figure, axes):
            axes.plot([0, 1000], [0, 1e6])
            style_axes(axes, 'iteration', title)
            places.append(axes.get_position().bounds)
            assert tuple(72 * figure.get_size_inches()) == pytest.approx((400, 225))
    assert places[0] == pytest.approx(places[1])
    assert places[0][0] == pytest.approx(54 / 400)


@pytest.mark.parametrize(('points', 'every'), [(FEW, 1), (FEW + 4, 3)])
def test_few_points_have_a_marker_each(points, every):
    with drawing(400, 225) as (_, axes):
        plot_line(axes, range(points), range(points), style=0)
        (line,) = axes.get_lines()
        assert line.get_markevery() == every and line.get_color() == STAND_INS['run-0']


def test_ticks_are_plain_numbers():
    with drawing(400, 225) as (figure, axes):
        axes.plot([0.001, 0.1], [1e6, 2e6])
        axes.set_xscale('log')
        style_axes(axes, 'lr', '')
        figure.canvas.draw()
        below = [label.get_text() for label in axes.get_xticklabels()]
        beside = [label.get_text() for label in axes.get_yticklabels()]
    assert '0.01' in below and not any('$' in text for text in below)
    assert '1\u202f500\u202f000' in beside
