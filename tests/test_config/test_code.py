"""Which modules are reached, and what a hash of them sees."""

import pytest

from csrm_plugin.config import code
from csrm_plugin.config.load import load_config
from csrm_plugin.config.provenance import config_settings

FILES = {
    '__init__.py': [],
    'functional/__init__.py': [
        'from csrm_plugin.functional.cam import normalize',
        'from csrm_plugin.functional.mix import mix as blend',
    ],
    'functional/cam.py': ['def normalize(x):', '    return x'],
    'functional/mix.py': ['from .cam import normalize', 'def mix(x):', '    return x'],
    'functional/other.py': ['value = 1'],
    'models/__init__.py': ['from csrm_plugin.models.net import Net', 'from csrm_plugin.models.big import big'],
    'models/net.py': [
        'from csrm_plugin import functional as F',
        'class Net:',
        '    def run(self, x):',
        '        return F.normalize(x)',
    ],
    'models/big.py': ['def big():', '    from csrm_plugin.functional.other import value', '    return value'],
    'models/passed.py': ['from csrm_plugin import functional', 'use(functional)'],
    'utils/__init__.py': ['from csrm_plugin.utils.errors import UserError'],
    'utils/errors.py': ['class UserError(Exception):', '    pass'],
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a few modules in the place of this one."""
    for name, lines in FILES.items():
        path = tmp_path / 'csrm_plugin' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(''.join(f'{line}\n' for line in lines))
    monkeypatch.setattr(code, '_PACKAGE_FOLDER', str(tmp_path / 'csrm_plugin'))
    return tmp_path / 'csrm_plugin'


def reached(*modules, files=()):
    return {name.removeprefix('csrm_plugin.') for name in code.reached_modules(modules, files)}


def test_imports_are_followed_to_what_defines_a_name(package):
    assert reached('csrm_plugin.models.net') == {'models.net', 'functional.cam'}
    assert reached('csrm_plugin.models.big') == {'models.big', 'functional.other'}  # within a function as well
    tool = package.parent / 'tool.py'
    tool.write_text('from csrm_plugin.functional import blend\nfrom csrm_plugin.utils import UserError\n')
    assert reached(files=[str(tool)]) == {'functional.mix', 'functional.cam'}  # errors change no result
    tool.write_text('import csrm_plugin.models\n')
    assert reached(files=[str(tool)]) == {'models', 'models.net', 'models.big', 'functional.cam', 'functional.other'}
    tool.write_text('from csrm_plugin.models import *\nimport torch.models\n')
    assert 'models.big' in reached(files=[str(tool)])
    assert reached('csrm_plugin.models.passed') == {'models.passed', 'functional', 'functional.cam', 'functional.mix'}
    with pytest.raises(ValueError, match=r'no module `csrm_plugin\.models\.nowhere`'):
        reached('csrm_plugin.models.nowhere')


BEFORE = """
import argparse
from dataclasses import dataclass


@dataclass
class Net:
    size: int = 3

    def run(self, x, *, flip=False):
        if flip and x > 0.5:
            return [x, None]
        return dict(a=1, b="text")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument('--scale', default=0.5)
"""
SAME = [
    ('import argparse\n', 'import argparse  # a comment\n\n'),
    ('class Net:\n', 'class Net:\n    """A net."""\n\n'),
    ('    size: int = 3\n', '    #: Its size.\n    size: int = 3\n    """In pixels."""\n'),
    ('return dict(a=1, b="text")', "return dict(\n            a=1,\n            b='text',\n        )"),
    ('def run(self, x, *, flip=False):', 'def run(self, x: float, *, flip: bool = False) -> list | dict:'),
    ("'--scale', default=0.5)", "'--scale', default=0.5, metavar='F', help='a factor')"),
]
OTHER = [
    ('size: int = 3', 'size: int = 4'),
    ('flip=False', 'flip=True'),
    ('x > 0.5', 'x >= 0.5'),
    ('[x, None]', '[None, x]'),
    ('b="text"', 'b="test"'),
    ('a=1', 'a=True'),
    ('@dataclass\n', ''),
    ('default=0.5', 'default=1'),
    ('class Net', 'class Net2'),
    ('            return [x, None]\n', '            return x, None\n'),
]


@pytest.mark.parametrize('old, new', SAME + OTHER)
def test_a_hash_sees_what_code_does_and_not_how_it_is_told(package, old, new):
    path = package / 'models' / 'net.py'
    path.write_text(BEFORE)
    before = code.code_hash(['csrm_plugin.models.net'])
    assert BEFORE.count(old) == 1
    path.write_text(BEFORE.replace(old, new))
    assert (code.code_hash(['csrm_plugin.models.net']) == before) is ((old, new) in SAME)


def test_positions_of_defaults_count(package):
    found = set()
    for text in ('def f(*, a, b=1): pass', 'def f(*, a=1, b): pass', 'def f(*, a, b): pass'):
        (package / 'models' / 'net.py').write_text(text)
        found.add(code.code_hash(['csrm_plugin.models.net']))
    assert len(found) == 3


def test_a_hash_follows_what_is_imported_and_nothing_else(package):
    tool = package.parent / 'tool.py'
    tool.write_text('from csrm_plugin.models import Net\n')
    before = code.code_hash(files=[str(tool)])
    for name, counts in (('models/big.py', False), ('models/__init__.py', False), ('functional/cam.py', True)):
        path = package / name
        text = path.read_text()
        path.write_text(text + 'more = 1\n')
        assert (code.code_hash(files=[str(tool)]) != before) is counts, name
        path.write_text(text)
    moved = package.parent / 'elsewhere' / 'tool.py'
    moved.parent.mkdir()
    tool.rename(moved)
    assert code.code_hash(files=[str(moved)]) == before


def test_classes_of_a_config_are_found_and_those_without_effect_left_out(root):
    found = {}
    for name in ('csrm_demo', 'cam_demo', 'rml_demo'):
        settings = config_settings(load_config(str(root / 'mmcfg' / f'{name}.py')))
        found[name] = {module.removeprefix('csrm_plugin.') for module in code.modules_of_settings(settings)}
    assert 'models.segmentors.csrm' in found['csrm_demo'] - found['cam_demo'] - found['rml_demo']
    assert 'models.segmentors.cam_classifier' in found['cam_demo'] and 'models.segmentors.rml' in found['rml_demo']
    for modules in found.values():
        assert 'engine.hooks.sample_pictures_hook' not in modules and 'engine.hooks.run_record_hook' not in modules
        assert {'evaluation.wsss_metric', 'models.decode_heads.cam_head'} <= modules
    assert len(code.reached_modules(f'csrm_plugin.{name}' for name in found['cam_demo'])) < 40


def test_classes_that_code_builds_by_name_are_followed(tmp_path):
    tool = tmp_path / 'tool.py'
    tool.write_text("MODELS.build(dict(type='RML', width=3))\nHOOKS.build({'type': 'mmseg.WarmupHook', 'iters': 3})\n")
    found = code.reached_modules(files=[str(tool)])
    assert {'csrm_plugin.models.segmentors.rml', 'csrm_plugin.engine.hooks.warmup_hook'} <= found
    assert 'csrm_plugin.functional.affinity' in found and 'csrm_plugin.models.segmentors.csrm' not in found


def test_a_class_of_the_users_own_counts_with_its_file(tmp_path, monkeypatch):
    path = tmp_path / 'own_parts.py'
    path.write_text(
        'from csrm_plugin.models.segmentors import CAMClassifier\nfrom mmseg.registry import MODELS\n\n\n'
        '@MODELS.register_module(force=True)\nclass OwnToySegmentor(CAMClassifier):\n    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    __import__('own_parts')
    found = code.modules_of_settings({'model.type': 'OwnToySegmentor', 'model.backbone.type': 'ResNet'})
    assert found == {str(path)}
    before = code.code_hash(found)
    path.write_text(path.read_text() + '    width = 3\n')
    assert code.code_hash(found) != before
    assert 'csrm_plugin.models.segmentors.cam_classifier' in code.reached_modules(files=found)
    assert code.modules_of_settings({'hook.type': 'csrm_plugin.engine.hooks.warmup_hook.WarmupHook'}) == {
        'csrm_plugin.engine.hooks.warmup_hook'
    }
