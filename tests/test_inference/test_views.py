import pytest

from csrm_plugin.inference.views import Views, view_pipeline
from csrm_plugin.utils import MissingFileError, UserError


def test_the_pipeline_scales_what_the_config_tests_at():
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(40, 30), keep_ratio=True),
        dict(type='LoadOptionalAnnotations'),
        dict(type='PackWSSSInputs'),
    ]
    views = view_pipeline(pipeline, (0.5, 2))
    assert [step['scale'] for step in views[1]['transforms'][0]] == [(20, 15), (80, 60)]
    assert [step['keep_ratio'] for step in views[1]['transforms'][0]] == [True, True]
    assert views[1]['transforms'][1:] == [[dict(type='PackWSSSInputs')]]
    bare = view_pipeline([dict(type='LoadImageFromFile'), dict(type='PackSegInputs')], (0.5,))
    assert bare[1]['transforms'][0] == [dict(type='Resize', scale_factor=0.5, keep_ratio=True)]


def test_a_broken_picture_is_named(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'no picture')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackWSSSInputs')]
    with pytest.raises(UserError, match=r'picture `.*a\.jpg` cannot be read'):
        Views([dict(img_path=str(tmp_path / 'a.jpg'))], pipeline)[0]
    with pytest.raises(MissingFileError, match=r'b\.jpg` does not exist'):
        Views([dict(img_path=str(tmp_path / 'b.jpg'))], pipeline)[0]
