import logging
import warnings

import pytest
from mmengine.logging import print_log

from csrm_plugin.utils.quiet import quiet


def test_hosts_are_silent_but_for_warnings_of_the_log(logged, recwarn):
    with quiet():
        print_log('initialised', logger='current')
        print_log('mind this', logger='current', level=logging.WARNING)
        warnings.warn('of the host', stacklevel=1)
    print_log('after', logger='current')
    assert logged == ['mind this', 'after'] and not recwarn


def test_what_is_printed_is_dropped_where_asked(capsys):
    with quiet():
        print('seen')
    with quiet(output=True):
        print('dropped')
    assert capsys.readouterr().out == 'seen\n'


def test_levels_are_those_from_before_also_after_an_error(logged):
    level = logging.getLogger('torch.onnx').level
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    print_log('after', logger='current')
    assert logged == ['after'] and logging.getLogger('torch.onnx').level == level
