import math
import re

from csrm_plugin.report import charts
from csrm_plugin.report.charts import Series
from csrm_plugin.report.page.markup import Ids

LINE = Series('one', [10, 20, 30], [1.0, None, 3.0], 0)


def test_a_line_breaks_where_a_value_is_missing():
    svg = charts.line_chart(Ids(), [Series('one', [0, 1, 2, 3, 4], [1, 2, math.nan, 2, 1], 0)], 'title')
    (path,) = re.findall(r'<path d="([^"]+)"[^>]*var\(--run-0\); stroke-width: 1\.7', svg)
    assert (path.count('M'), path.count('L')) == (2, 2)


def test_the_second_curve_of_a_run_has_open_markers():
    lines = {hollow: LINE._replace(ys=[1.0, 2.0, 3.0], hollow=hollow) for hollow in (False, True)}
    full, both = (charts.threshold_chart(Ids(), list(some), [], 'title') for some in ([lines[False]], lines.values()))
    assert 'fill: var(--panel)' not in full and both.count('stroke-width: 1.1') == 1
    assert 'fill: var(--panel)' in both and both.count('stroke-width: 1.7') == full.count('stroke-width: 1.7') == 1
    for index in range(6):
        assert 'var(--panel)' in charts.swatch(index, True) and 'var(--panel)' not in charts.swatch(index)


def test_bars_are_described_with_those_that_are_missing():
    svg = charts.bar_chart(Ids(), ['dog', '<i>'], [Series('one', [], [50.0, None], 0)], 'title')
    assert 'dog 50.0, &lt;i&gt; absent' in svg
