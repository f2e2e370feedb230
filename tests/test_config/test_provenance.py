import hashlib
import os
import subprocess

import pytest
from mmengine.config import Config

from csrm_plugin.config import provenance
from csrm_plugin.config.load import load_config
from csrm_plugin.utils import MissingFileError


def settings(**content):
    """Settings of a config, as Python reads it."""
    return provenance.config_settings(Config(content))


def test_settings_are_flat_and_plain():
    found = settings(
        model=dict(type='CSRM', scales=(1, 2), nested=[[dict(a=1)], [dict(b=(2,))]], clip=None, options=dict()),
        custom_hooks=[dict(type='A', end=0.5), dict(type='B')],
    )
    assert found == {
        'model.type': 'CSRM',
        'model.scales': [1, 2],
        'model.nested.0.0.a': 1,
        'model.nested.1.0.b': [2],
        'model.clip': None,
        'model.options': {},
        'custom_hooks.0.type': 'A',
        'custom_hooks.0.end': 0.5,
        'custom_hooks.1.type': 'B',
    }


def test_settings_leave_out_what_changes_no_result():
    assert settings(
        work_dir='a',
        load_from='b.pth',
        resume=True,
        visualizer=dict(type='V'),
        log_level='INFO',
        branch=dict(width=3),
        train_dataloader=dict(batch_size=2, num_workers=4, dataset=dict(data_root='/data')),
        default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=1, save_best='seg/mIoU')),
    ) == {
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset': {},
        'default_hooks.checkpoint.save_best': 'seg/mIoU',
    }


def test_crf_with_nothing_but_workers_is_not_the_same_as_none():
    four, two, none = (settings(model=dict(crf=crf)) for crf in (dict(workers=4), dict(workers=2), None))
    assert four == two != none
    assert settings(model=dict()) not in (four, none)


def test_weights_count_by_content_and_other_paths_by_name(tmp_path):
    def identify(path):
        return settings(model=dict(init_cfg=dict(checkpoint=str(path))))['model.init_cfg.checkpoint']

    absent = identify(tmp_path / 'w.pth')
    for folder, content in (('a', b'1'), ('b', b'1'), ('c', b'2')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'w.pth').write_bytes(content)
    a, b, c = (identify(tmp_path / folder / 'w.pth') for folder in 'abc')
    assert a == b and len({a, c, absent}) == 3
    assert a == f'w.pth (sha256 {hashlib.sha256(b"1").hexdigest()[:16]})'
    assert absent == 'w.pth (not there)'
    assert identify('torchvision://resnet18') == 'torchvision://resnet18'
    assert identify('none') == 'none'
    assert settings(model=dict(list_file=str(tmp_path / 'x.txt'))) == {'model.list_file': 'x.txt'}


def test_settings_of_a_shipped_config_follow_its_options_alone(root):
    path = str(root / 'mmcfg' / 'csrm_demo.py')
    plain = provenance.config_settings(load_config(path))
    moved = {'train_dataloader.num_workers': 0, 'train_dataloader.dataset.data_root': 'x', 'load_from': 'y.pth'}
    assert provenance.config_settings(load_config(path, moved)) == plain
    changed = provenance.config_settings(load_config(path, {'model.pseudo_label.fg_threshold': 0.4}))
    assert {key for key in plain | changed if plain.get(key) != changed.get(key)} == {'model.pseudo_label.fg_threshold'}
    assert provenance.config_hash(plain) != provenance.config_hash(changed)


def test_hash_of_settings_does_not_depend_on_order_or_on_how_a_number_is_written():
    assert provenance.config_hash({'a': 1, 'b': [2.0]}) == provenance.config_hash({'b': [2], 'a': 1.0})
    assert provenance.config_hash({'a': 1}) != provenance.config_hash({'a': True})
    assert provenance.config_hash({'a': None}) != provenance.config_hash({})


def test_file_hash_is_sha256(tmp_path):
    content = bytes(range(256)) * 5000  # more than is read at a time
    (tmp_path / 'a.bin').write_bytes(content)
    assert provenance.file_hash(tmp_path / 'a.bin') == hashlib.sha256(content).hexdigest()
    with pytest.raises(MissingFileError, match=r'b\.bin'):
        provenance.file_hash(tmp_path / 'b.bin')


def test_versions_are_those_of_the_modules():
    import mmseg
    import torch

    found = provenance.versions()
    assert (found['torch'], found['mmseg']) == (torch.__version__, mmseg.__version__)
    assert {'python', 'numpy', 'mmengine', 'mmcv', 'csrm_plugin'} <= found.keys()
    assert all(type(version) is str for version in found.values())


def git(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    identity = ('-c', 'user.name=t', '-c', 'user.email=t@example.org', '-c', 'commit.gpgsign=false')
    subprocess.run(['git', '-C', folder, *identity, *arguments], check=True, capture_output=True, env=environment)


def test_git_revision_follows_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert provenance.git_revision(tmp_path / 'nowhere') is None
    git(tmp_path, 'init', '-q')
    assert provenance.git_revision(tmp_path) is None
    (tmp_path / 'a.txt').write_text('1')
    git(tmp_path, 'add', 'a.txt')
    git(tmp_path, 'commit', '-q', '-m', 'first')
    clean = provenance.git_revision(tmp_path)
    assert len(clean['revision']) == 40 and clean['dirty'] is False
    (tmp_path / 'b.txt').write_text('untracked')
    assert provenance.git_revision(tmp_path) == clean
    (tmp_path / 'a.txt').write_text('2')
    assert provenance.git_revision(tmp_path) == {**clean, 'dirty': True}


def test_git_revision_of_a_package_that_git_does_not_track_is_none(tmp_path, monkeypatch):
    git(tmp_path, 'init', '-q')
    (tmp_path / 'a.txt').write_text('1')
    git(tmp_path, 'add', 'a.txt')
    git(tmp_path, 'commit', '-q', '-m', 'first')
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / '__init__.py').touch()
    monkeypatch.setattr(provenance, '_PACKAGE_FOLDER', str(tmp_path / 'site'))
    assert provenance.git_revision() is None
    git(tmp_path, 'add', 'site/__init__.py')
    assert provenance.git_revision()['dirty'] is True
    monkeypatch.setenv('PATH', str(tmp_path / 'empty'))
    assert provenance.git_revision() is None


def test_host_names_gpus_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(provenance, '_output', lambda command: 'One GPU\nAnother GPU')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert provenance.host()['gpus'] == ['One GPU', 'Another GPU']
    for visible, expected in (('1', ['Another GPU']), ('', []), ('GPU-uuid', ['One GPU', 'Another GPU'])):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
        assert provenance.host()['gpus'] == expected
    monkeypatch.setattr(provenance, '_output', lambda command: None)
    assert provenance.host()['gpus'] == []
    assert set(provenance.host()) == {'cpus', 'gpus'} and provenance.host()['cpus'] >= 1
