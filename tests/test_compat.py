import functools
import importlib
import inspect
import os
import pathlib
import pickle
import re
import subprocess
import sys
import types

import mmengine.runner.runner
import mmengine.utils
import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, checkpoint, load_checkpoint

from csrm_plugin import compat

GOOD = {'torch': '2.13.0+cpu', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmseg': '1.2.2'}


def test_installed_hosts_are_supported():
    compat.check_host_versions()
    compat.check_host_versions(GOOD)


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('mmseg', '0.30.0'),
        ('mmseg', '2.0.0rc1'),
        ('mmcv', '1.7.0'),
        ('mmengine', '0.9.0'),
        ('mmengine', '0.11.0rc0'),
        ('torch', '1.13.1'),
    ],
)
def test_versions_out_of_range_are_named_with_the_range(name, version):
    with pytest.raises(ImportError) as error:
        compat.check_host_versions({**GOOD, name: version})
    message = str(error.value)
    assert f'{name} {version} is outside the supported range {compat.SUPPORTED[name]}' in message
    assert not any(f'{other} {found}' in message for other, found in GOOD.items() if other != name)


def test_all_problems_are_named_at_once():
    with pytest.raises(ImportError, match=r'torch 1\.0 is outside.*mmseg is not installed.*make install'):
        compat.check_host_versions({**GOOD, 'torch': '1.0', 'mmseg': None})


def test_undeclared_needs_of_mmseg_are_named(monkeypatch):
    monkeypatch.setattr(compat, 'UNDECLARED', ('surely_not_there',))
    with pytest.raises(ImportError, match='surely_not_there is not installed'):
        compat.check_host_versions()


def test_refusal_of_mmseg_itself_is_named(monkeypatch):
    def refuse(name):
        if name == 'mmseg':
            raise AssertionError('MMCV==9 is used but incompatible')
        return GOOD[name]

    monkeypatch.setattr(compat, '_installed_version', refuse)
    with pytest.raises(ImportError, match='MMCV==9 is used but incompatible'):
        compat.check_host_versions()


needs_lite = pytest.mark.skipif(
    importlib.util.find_spec('mmcv._ext') is not None, reason='the full mmcv is installed: nothing to mend'
)


@needs_lite
def test_missing_operators_fail_when_called_and_leave_no_trace():
    assert 'mmcv._ext' not in sys.modules
    assert importlib.util.find_spec('mmcv._ext') is None
    from mmcv.ops import sigmoid_focal_loss

    with pytest.raises(RuntimeError, match='mmcv-lite has no compiled operators'):
        sigmoid_focal_loss(torch.randn(2, 3), torch.tensor([0, 1]), 2.0, 0.25, None, 'mean')
    compat.import_mmcv_ops()
    assert 'mmcv._ext' not in sys.modules


def run_python(code, *paths):
    """What a process of its own prints; modules in ``paths`` hide installed ones."""
    path = os.pathsep.join([*map(str, paths), *sys.path])
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def torchvision_without_operators(tmp_path):
    """Folder with a torchvision whose compiled part cannot be loaded, and which describes an operator all the same."""
    folder = tmp_path / 'torchvision'
    folder.mkdir()
    (folder / '_C.so').write_bytes(b'built for another torch')
    (folder / '__init__.py').write_text(
        'import torch\n__version__ = "0.1"\n'
        'for name in ("nms", "qnms"):\n'
        '    torch.library.register_fake(f"torchvision::{name}")(lambda dets, scores, iou_threshold: dets)\n'
    )
    return tmp_path


def test_torchvision_of_another_torch_can_be_imported(torchvision_without_operators):
    code = (
        'import torch\n'
        'try: import torchvision\n'
        'except RuntimeError: print("broken")\n'
        'import sys; sys.modules.pop("torchvision", None)\n'
        'from csrm_plugin import compat; compat.declare_torchvision_ops()\n'
        'from mmengine.utils.dl_utils import collect_env; print(collect_env()["TorchVision"])\n'
        'try: torch.ops.torchvision.nms(torch.rand(1, 4), torch.rand(1), 0.5)\n'
        'except NotImplementedError: print("missing")'
    )
    assert run_python(code, torchvision_without_operators) == ['broken', '0.1', 'missing']


def test_nothing_is_declared_where_torchvision_is_complete_or_missing(torchvision_without_operators, monkeypatch):
    monkeypatch.syspath_prepend(str(torchvision_without_operators))
    monkeypatch.delitem(sys.modules, 'torchvision', raising=False)
    monkeypatch.setattr(compat, '_TORCHVISION_OPS', [])
    loaded = []

    class Operators:
        def load_library(self, path):
            loaded.append(os.path.basename(path))
            self.torchvision = types.SimpleNamespace(nms=len)

    monkeypatch.setattr(torch, 'ops', Operators())
    compat.declare_torchvision_ops()
    assert loaded == ['_C.so'] and compat._TORCHVISION_OPS == []
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    compat.declare_torchvision_ops()
    assert loaded == ['_C.so']


def test_timm_is_imported_when_one_of_its_models_is_built(tmp_path):
    (tmp_path / 'timm.py').write_text('import torch\ndef create_model(**kwargs): return torch.nn.Linear(1, 1)\n')
    code = (
        'import sys, csrm_plugin; print("timm" in sys.modules)\n'
        'from mmseg.models.backbones import TIMMBackbone; TIMMBackbone("any"); print("timm" in sys.modules)'
    )
    assert run_python(code, tmp_path) == ['False', 'True']


def test_bases_of_installed_packages_are_inherited_without_pkg_resources(tmp_path):
    code = (
        'import sys; sys.modules["pkg_resources"] = None; import csrm_plugin\n'
        'from mmengine.config import Config\n'
        'print(Config.fromfile(sys.argv[1]).model.type)'
    )
    config = tmp_path / 'c.py'
    config.write_text("_base_ = 'mmseg::_base_/models/fcn_unet_s5-d16.py'\n")
    done = subprocess.run(
        [sys.executable, '-W', 'error::UserWarning:pkg_resources', '-c', code, str(config)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().splitlines()[-1] == 'EncoderDecoder'
    assert Config.fromfile(config).model.type == 'EncoderDecoder'


def test_installed_packages_are_found():
    assert mmengine.utils.is_installed('mmseg')
    assert mmengine.utils.is_installed('mmsegmentation')  # also where a fork brings mmseg
    assert mmengine.utils.is_installed('mmcv')
    assert not mmengine.utils.is_installed('surely_not_there')
    assert mmengine.utils.get_installed_path('mmseg') == os.path.dirname(mmseg.__file__)
    assert mmengine.utils.get_installed_path('mmsegmentation') == os.path.dirname(mmseg.__file__)
    with pytest.raises(RuntimeError, match='surely_not_there'):
        mmengine.utils.get_installed_path('surely_not_there')


def test_training_checkpoint_is_read_safely(tmp_path):
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    path = tmp_path / 'c.pth'
    content = dict(
        history=history,
        lr=np.float64(0.5),
        steps=np.int64(3),
        array=np.arange(3, dtype=np.float32),
        weight=torch.ones(2),
    )
    torch.save(content, path)
    loaded = torch.load(path, weights_only=True)
    assert loaded['history'].mean() == 2
    assert loaded['history'].statistics('max') == 3
    assert loaded['lr'] == 0.5
    assert loaded['steps'] == 3
    np.testing.assert_array_equal(loaded['array'], content['array'])


class _RunsCommand:
    def __reduce__(self):
        return os.system, ('true',)


class _ReachesForMore:
    def __reduce__(self):
        return getattr, (HistoryBuffer.mean, '__globals__')


class _ReachesForInit:
    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


@pytest.mark.parametrize('payload', [_RunsCommand, _ReachesForMore, _ReachesForInit])
def test_checkpoints_that_run_code_are_still_refused(payload, tmp_path):
    path = tmp_path / 'c.pth'
    torch.save(dict(history=HistoryBuffer([1.0], [1]), payload=payload()), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(torch.nn.Linear(1, 1), str(path))


class _WritesFile:
    """Leaves a file where it is unpickled, which tells whether it was run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


needs_safe_mode = pytest.mark.skipif(
    torch.__version__ < '2.6', reason='torch knows no names for what a checkpoint may hold'
)


def main_branch():
    """Stand-in for ``mmengine.runner.checkpoint`` of MMEngine's main branch (0.11, not released).

    As far as loading goes, that is the module of 0.10.7 with ``weights_only=False`` in its four calls of
    ``torch.load``: for local files, pavi, ceph (s3 and petrel), and the files that MMEngine keeps in its own folder.
    """
    text = pathlib.Path(checkpoint.__file__).read_text()
    call = re.compile(r'torch\.load\((\w+), map_location=map_location\)')
    text, count = call.subn(r'torch.load(\1, map_location=map_location, weights_only=False)', text)
    if count == 0:
        pytest.skip('this MMEngine is no 0.10 of the authors')
    assert count == 4
    module = types.ModuleType('mmengine.runner.checkpoint')
    module.__file__ = checkpoint.__file__
    exec(compile(text, checkpoint.__file__, 'exec'), vars(module))
    return module


@pytest.fixture(params=['installed', 'main branch'])
def loaders(request):
    """A module of loaders, as the package leaves it."""
    if request.param == 'installed':
        return checkpoint
    module = main_branch()
    compat.read_data_only(module)
    return module


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A checkpoint that is data, one that runs code, and the trace that the latter leaves if it does."""
    trace = tmp_path / 'it_ran'
    good = dict(state_dict=torch.nn.Linear(1, 1).state_dict(), message_hub=dict(loss=HistoryBuffer([1.0], [1])))
    for name, content in (('good', good), ('bad', good | dict(payload=_WritesFile(trace)))):
        folder = tmp_path / 'hub' / 'checkpoints'
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(content, folder / f'{name}.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    # What ceph and pavi would fetch.
    store = types.SimpleNamespace(get=lambda name: (folder / os.path.basename(name)).read_bytes())
    download = types.SimpleNamespace(
        get=lambda name: types.SimpleNamespace(
            name=name, download=lambda path: pathlib.Path(path).write_bytes((folder / name).read_bytes())
        )
    )
    monkeypatch.setitem(sys.modules, 'pavi', types.SimpleNamespace(modelcloud=download))
    return types.SimpleNamespace(folder=folder, trace=trace, store=store)


def sources(files, name):
    """One checkpoint by each of the ways to name it."""
    return [
        str(files.folder / f'{name}.pth'),
        f'https://example.org/{name}.pth',  # it is in the cache, so nothing is fetched
        f's3://bucket/{name}.pth',
        f'pavi://{name}.pth',
    ]


@needs_safe_mode
@pytest.mark.parametrize('index', range(4), ids=['local', 'http', 's3', 'pavi'])
def test_no_loader_runs_what_is_in_a_checkpoint(loaders, files, index, monkeypatch):
    monkeypatch.setattr(loaders, 'get_file_backend', lambda *args, **kwargs: files.store)
    model = torch.nn.Linear(1, 1)
    with pytest.raises(pickle.UnpicklingError):
        loaders.load_checkpoint(model, sources(files, 'bad')[index])
    assert not files.trace.exists()
    loaded = loaders.load_checkpoint(model, sources(files, 'good')[index])
    assert loaded['message_hub']['loss'].mean() == 1 and model.weight.equal(loaded['state_dict']['weight'])


@needs_safe_mode
def test_no_runner_runs_what_is_in_a_checkpoint(loaders, files, tmp_path, monkeypatch):
    monkeypatch.setattr(mmengine.runner.runner, '_load_checkpoint', loaders._load_checkpoint)
    monkeypatch.setattr(mmengine.runner.runner, '_load_checkpoint_to_model', loaders._load_checkpoint_to_model)
    runner = Runner(model=torch.nn.Linear(1, 1), work_dir=str(tmp_path / 'run'), experiment_name=f'run_{id(loaders)}')
    for load in (runner.load_checkpoint, runner.resume):
        with pytest.raises(pickle.UnpicklingError):
            load(str(files.folder / 'bad.pth'))
    assert not files.trace.exists()
    assert runner.load_checkpoint(str(files.folder / 'good.pth'))['message_hub']['loss'].mean() == 1


@needs_safe_mode
def test_the_stand_in_would_run_it_and_so_would_a_download(files, monkeypatch):
    """Or the tests above would see nothing."""
    module = main_branch()
    monkeypatch.setattr(module, 'get_file_backend', lambda *args, **kwargs: files.store)
    for source in sources(files, 'bad'):
        if source.startswith('https'):  # as torch hands it to MMEngine
            torch.hub.load_state_dict_from_url(source)
        else:
            module.load_checkpoint(torch.nn.Linear(1, 1), source)
        assert files.trace.exists(), source
        files.trace.unlink()


@needs_safe_mode
def test_the_fork_s_way_around_is_closed(files):
    """``onedl-mmengine`` has a function of its own, which loads what is refused all the same."""
    fork = types.ModuleType('mmengine.runner.checkpoint')
    fork.torch, fork._safe_torch_load = torch, functools.partial(torch.load, weights_only=False)
    compat.read_data_only(fork)
    with pytest.raises(pickle.UnpicklingError):
        fork._safe_torch_load(str(files.folder / 'bad.pth'), map_location='cpu', weights_only=False)
    assert not files.trace.exists()


@needs_safe_mode
def test_only_mmengine_sees_another_torch(loaders):
    assert torch.load is not loaders.torch.load and torch.load.__module__.startswith('torch')
    assert loaders.torch.Tensor is torch.Tensor and loaders.torch.nn is torch.nn
    with pytest.raises(AttributeError, match='surely_not_there'):
        loaders.torch.surely_not_there  # noqa: B018


def test_applying_twice_changes_nothing():
    compat.apply()
    before = dict(vars(checkpoint))
    compat.apply()
    assert vars(checkpoint).keys() == before.keys()
    assert inspect.unwrap(checkpoint.load_url) is torch.hub.load_state_dict_from_url
