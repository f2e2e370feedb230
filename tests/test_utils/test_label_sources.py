import argparse

import pytest

from csrm_plugin.inference.arguments import add_inference_arguments
from csrm_plugin.utils.label_sources import CAM_SOURCES, NOTED_SOURCES, SOURCES, describe_source


def test_every_kind_of_source_has_a_name():
    assert set(CAM_SOURCES) | set(NOTED_SOURCES) == set(SOURCES)


@pytest.mark.parametrize(
    'given, text',
    [
        (('cam', 0.3), 'CAM at 0.3'),
        (('propagated', 0.35), 'propagated CAM at 0.35'),
        (('seg', None), 'segmentation'),
        (('cam', None), 'CAM'),
        ((None, 0.3), ''),
        (('other', 0.3), ''),
    ],
)
def test_in_words(given, text):
    assert describe_source(*given) == text


def test_tools_take_each_of_them(capsys):
    parser = add_inference_arguments(argparse.ArgumentParser())
    for source in SOURCES:
        assert parser.parse_args(['--source', source]).source == source
    with pytest.raises(SystemExit):
        parser.parse_args(['--source', 'segm'])
    assert 'invalid choice' in capsys.readouterr().err
