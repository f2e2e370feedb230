import ast
import inspect
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import csrm_plugin
from csrm_plugin import compat
from csrm_plugin.models.backbones.timm_backbone import OLDEST_TIMM

#: Distribution -> module, where they differ.
HOSTS = {'torch': 'torch', 'mmengine': 'mmengine', 'mmcv-lite': 'mmcv', 'mmsegmentation': 'mmseg'}


@pytest.fixture(scope='module')
def metadata():
    """What setup.py hands to setuptools, caught in a process of its own that must not import the package."""
    code = (
        'import json, sys, setuptools; from pathlib import Path\n'
        'caught = {}; setuptools.setup = caught.update\n'
        'exec(compile(Path("setup.py").read_text(), "setup.py", "exec"), {"__file__": "setup.py", "__name__": "s"})\n'
        'assert not {"csrm_plugin", "torch"} & set(sys.modules)\n'
        'print(json.dumps(caught))'
    )
    root = csrm_plugin.__path__[0] + '/..'
    done = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True)
    import json

    return json.loads(done.stdout)


@pytest.fixture(scope='module')
def pins(request):
    """Distribution -> version in requirements.txt."""
    lines = (request.config.rootpath / 'requirements.txt').read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith('#')]
    assert all(re.fullmatch(r'[\w.-]+==[\w.]+', line) for line in lines), 'every line is NAME==VERSION'
    found = dict(line.split('==') for line in lines)
    assert len(found) == len(lines)
    return {canonicalize_name(name): version for name, version in found.items()}


def test_version_is_the_package_s(metadata):
    assert metadata['version'] == csrm_plugin.__version__


def test_all_subpackages_are_found(metadata, request):
    folders = (request.config.rootpath / 'csrm_plugin').rglob('__init__.py')
    names = {'.'.join(path.parent.relative_to(request.config.rootpath).parts) for path in folders}
    assert set(metadata['packages']) == names


def test_extra_all_is_all(metadata):
    extras = metadata['extras_require']
    named = {'crf', 'wandb', 'sweep', 'coco', 'sam', 'superpixels', 'onnx', 'tensorboard', 'timm', 'dev', 'all'}
    assert set(extras) >= named
    others = {item for name, items in extras.items() if name != 'all' for item in items}
    assert sorted(extras['all']) == sorted(others)


def test_tested_versions_are_in_range_of_what_setup_asks_for(metadata, pins):
    for line in metadata['install_requires'] + metadata['extras_require']['all']:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in pins, f'{name} is not pinned in requirements.txt'
        assert requirement.specifier.contains(pins[name]), line


def test_hosts_have_the_range_that_is_checked_at_import(metadata):
    """Lower ends are the same; `mmcv-lite` of 2.2 is shut out by mmseg, the full `mmcv` may be newer."""
    asked = {canonicalize_name(line.name): line.specifier for line in map(Requirement, metadata['install_requires'])}
    for name in ('torch', 'mmengine', 'mmsegmentation'):
        assert asked[name] == SpecifierSet(compat.SUPPORTED[HOSTS[name]])
    assert asked['mmengine'].contains('0.10.7') and not asked['mmengine'].contains('0.11.0', prereleases=True)


def test_every_file_is_written_for_the_oldest_python_asked_for(metadata, request):
    """Which is the first that evaluates `int | None` in a signature, as the hints do everywhere."""
    assert metadata['python_requires'] == '>=3.10'
    for folder in ('csrm_plugin', 'tools', 'mmcfg'):
        for path in (request.config.rootpath / folder).rglob('*.py'):
            ast.parse(path.read_text(), str(path), feature_version=(3, 10))


@pytest.mark.parametrize(('version', 'fits'), [('4.2.1', False), ('4.3.0', True), ('5.0.0', True), ('6.0.0', False)])
def test_sweeps_take_the_versions_of_optuna_that_have_what_they_use(metadata, version, fits):
    (line,) = [line for line in metadata['extras_require']['sweep'] if line.startswith('optuna')]
    assert Requirement(line).specifier.contains(version) is fits


def test_timm_is_asked_for_from_the_version_that_the_backbone_needs(metadata):
    (line,) = [line for line in metadata['extras_require']['timm'] if line.startswith('timm')]
    assert Requirement(line).specifier == SpecifierSet(f'>={OLDEST_TIMM}')


def test_optuna_has_what_sweeps_use():
    """What came last into Optuna: the journal in 4.0, the error in 4.3."""
    from optuna import importance, samplers, storages
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.storages.journal import JournalFileBackend

    assert {'file_path', 'lock_obj'} <= set(inspect.signature(JournalFileBackend).parameters)
    assert issubclass(UpdateFinishedTrialError, RuntimeError)
    assert storages.JournalStorage and samplers.GPSampler and importance.PedAnovaImportanceEvaluator


def test_tested_versions_are_supported_at_import(pins):
    compat.check_host_versions({module: pins[name] for name, module in HOSTS.items()})
    assert set(compat.SUPPORTED) == set(HOSTS.values())
