import re
import warnings

import pytest

from csrm_plugin.report import charts
from csrm_plugin.report.charts import Series
from csrm_plugin.report.page.markup import Ids

LINE = Series('one', [10, 20, 30], [1.0, None, 3.0], 0)


def draw(kind, ids):
    points = [(1, 30.0, 'complete'), (2, 40.0, 'pruned')]
    if kind == 'line':
        return charts.line_chart(ids, [LINE], 'title')
    if kind == 'threshold':
        return charts.threshold_chart(ids, [LINE], [(20, 2.0, 'best', 0), (30, 3.0, 'fixed', 0)], 'title')
    if kind == 'bars':
        return charts.bar_chart(ids, ['dog', '<i>'], [Series('one', [], [50.0, None], 0)], 'title')
    if kind == 'scatter':
        return charts.scatter_chart(ids, points, (30, 40), 'title', 'x', 'y', ([1, 2], [30, 30]), log=True)
    if kind == 'choices':
        return charts.scatter_chart(ids, [('SGD', 1, 'complete'), ('<b>', 2, 'complete')], (1, 2), 'title', 'x', 'y')
    if kind == 'curves':
        return charts.curves_chart(ids, [([[1, 2], [2, 3]], 3, 'pruned')], (3, 3), 'title', 'y')
    axes = [('lr', [0.1, 0.001], True), ('kind', ['a', 'b'], False)]
    return charts.parallel_chart(ids, axes, ('score', [1.0, 2.0]), (1, 2), ['complete', 'pruned'], 'title')


@pytest.mark.parametrize('kind', ['line', 'threshold', 'bars', 'scatter', 'choices', 'curves', 'parallel'])
def test_charts_are_fit_for_a_page(kind):
    svg = draw(kind, Ids())
    assert svg.startswith('<svg class="chart" viewBox="0 0 ') and svg.endswith('</svg>')
    assert 'role="img"' in svg and re.search(r'<title id="[^"]+">title</title><desc id="[^"]+">\S', svg)
    assert not re.search(r'http|<style|<metadata|xlink|#0102|#000|<i>|<b>|mathdefault', svg)
    assert 'var(--' in svg and '<text' in svg
    assert draw(kind, Ids()) == svg  # the same each time
    ids = Ids()
    both = draw(kind, ids) + draw(kind, ids)
    names = re.findall(r' id="([^"]+)"', both)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', both)) <= set(names)


def test_swatches_differ():
    assert len({charts.swatch(index) for index in range(12)}) == 12


def test_letters_that_the_font_lacks_stay_text_without_a_warning():
    name = '\u72d7'  # dog
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        svg = charts.bar_chart(Ids(), [name], [Series('one', [], [50.0], 0)], 'title')
    assert f'>{name}</text>' in svg
