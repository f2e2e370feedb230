import json
import math

import numpy as np

from csrm_plugin.utils.text import cell, percent


def test_percent_is_rounded_and_a_plain_number():
    assert percent(0.1234567) == 12.3457 and percent(1) == 100.0 and percent(0) == 0.0
    assert json.dumps(percent(np.float32(0.5))) == '50.0'


def test_percent_of_what_is_not_defined_is_none():
    assert percent(math.nan) is None and percent(np.float64('nan')) is None


def test_cell_has_two_digits_and_a_dash_for_none():
    assert cell(12.3457) == '12.35' and cell(7) == '7.00' and cell(None) == '-'
