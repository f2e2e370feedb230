import importlib
import os
import pickle
import subprocess
import sys

import mmengine.utils
import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint

from csrm_plugin import compat

GOOD = {'torch': '2.13.0+cpu', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmseg': '1.2.2'}


def test_installed_hosts_are_supported():
    compat.check_host_versions()
    compat.check_host_versions(GOOD)


@pytest.mark.parametrize(
    ('name', 'version'),
    [('mmseg', '0.30.0'), ('mmseg', '2.0.0rc1'), ('mmcv', '1.7.0'), ('mmengine', '0.9.0'), ('torch', '1.13.1')],
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


def test_applying_twice_changes_nothing():
    compat.apply()
    compat.apply()
