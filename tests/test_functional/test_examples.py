import inspect

import pytest

from csrm_plugin import functional as F

FUNCTIONS = sorted(name for name in F.__all__ if inspect.isfunction(getattr(F, name)))


@pytest.mark.parametrize('name', FUNCTIONS)
def test_every_function_shows_an_example(name):
    """pytest runs the examples themselves."""
    text = inspect.getdoc(getattr(F, name))
    assert '\nExample:\n    >>> ' in text and f'{name}(' in text.partition('\nExample:\n')[2]


def test_there_are_functions():
    assert len(FUNCTIONS) > 40
