import math

from csrm_plugin.report import charts
from csrm_plugin.report.charts import Series

LINE = Series('one', [10, 20, 30], [1.0, None, 3.0], 0)


def test_long_lines_are_averaged_and_gaps_stay():
    xs, ys = charts.thin(list(range(10)), [*range(9), None], limit=5)
    assert xs == [0.5, 2.5, 4.5, 6.5, 8.5] and ys[:4] == [0.5, 2.5, 4.5, 6.5] and math.isnan(ys[4])
    assert charts.thin([1, 2], [3, 4]) == ([1, 2], [3, 4])
    assert len(charts.thin(list(range(1001)), list(range(1001)))[0]) <= charts.MAX_POINTS


def test_descriptions_say_the_numbers():
    assert charts.describe([LINE], 'iteration', percent=True) == (
        'one: 1% at iteration 10, 3% at 30, between 1% and 3%.'
    )
    assert charts.describe([Series('none', [1], [None], 0)], 'iteration') == 'none: no values.'
