import hashlib
import os
import subprocess

import pytest
from mmengine.config import Config

from csrm_plugin.engine.config import load_config
from csrm_plugin.pipeline import cards
from csrm_plugin.utils import MissingFileError, UserError


def card(stage='csrm', number=1, **parts):
    """The least that a card may be."""
    return dict(stage=stage, kind='train', run='demo', number=number, status='done', **parts)


def settings(**content):
    """Settings of a config, as Python reads it."""
    return cards.config_settings(Config(content))


def test_card_is_read_as_it_was_written(tmp_path):
    written = card(scores={'train': {'pseudo/mIoU': 48.7}}, time={'seconds': float('nan')}, git=None)
    path = cards.write_card(tmp_path / 'run' / 'csrm', written)
    assert path == str(tmp_path / 'run' / 'csrm' / 'card.json')
    assert cards.read_card(tmp_path / 'run' / 'csrm') == {**written, 'time': {'seconds': None}}
    assert os.listdir(tmp_path / 'run' / 'csrm') == ['card.json']


def test_no_card_is_none_and_an_incomplete_one_is_not_written(tmp_path):
    assert cards.read_card(tmp_path) is None
    with pytest.raises(ValueError, match='lacks kind, run'):
        cards.write_card(tmp_path, {'stage': 'csrm', 'number': 1, 'status': 'done'})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"stage": ', 'no JSON'),
        ('[1]', 'JSON object'),
        ('{"stage": "csrm"}', 'lacks kind, run, number, status'),
        ('{"stage": "a", "kind": "b", "run": "c", "number": 1, "status": "done", "scores": [1]}', '`scores` is no'),
        ('{"stage": "a", "kind": "b", "run": "c", "number": "1", "status": "done"}', "`number` is '1'"),
    ],
)
def test_broken_card_is_an_error_that_names_the_file(tmp_path, text, message):
    (tmp_path / 'card.json').write_text(text)
    with pytest.raises(UserError, match=message) as info:
        cards.read_card(tmp_path)
    assert str(tmp_path / 'card.json') in str(info.value)


def test_run_is_read_in_the_order_of_its_stages(tmp_path):
    for number, stage in ((10, 'table'), (2, 'csrm'), (1, 'data')):
        cards.write_card(tmp_path / stage, card(stage, number))
    (tmp_path / 'pictures').mkdir()
    (tmp_path / 'report.html').touch()
    assert [found['stage'] for found in cards.read_run(tmp_path)] == ['data', 'csrm', 'table']
    cards.write_card(tmp_path / 'old', card('csrm', 2))
    with pytest.raises(UserError, match='csrm and old both hold'):
        cards.read_run(tmp_path)
    with pytest.raises(MissingFileError, match='nowhere'):
        cards.read_run(tmp_path / 'nowhere')
    assert cards.read_run(tmp_path / 'pictures') == []


def test_settings_are_flat_and_plain():
    found = settings(
        model=dict(type='CSRM', scales=(1, 2), nested=[[dict(a=1)], [dict(b=(2,))]], clip=None, options=dict()),
        custom_hooks=[dict(type='A', end=0.5), dict(type='B')],
    )
    assert found == {
        'model.type': 'CSRM', 'model.scales': [1, 2], 'model.nested.0.0.a': 1, 'model.nested.1.0.b': [2],
        'model.clip': None, 'model.options': {}, 'custom_hooks.0.type': 'A', 'custom_hooks.0.end': 0.5,
        'custom_hooks.1.type': 'B',
    }  # fmt: skip


def test_settings_leave_out_what_changes_no_result():
    assert settings(
        work_dir='a', load_from='b.pth', resume=True, visualizer=dict(type='V'), log_level='INFO', branch=dict(width=3),
        train_dataloader=dict(batch_size=2, num_workers=4, dataset=dict(data_root='/data')),
        default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=1, save_best='seg/mIoU')),
    ) == {'train_dataloader.batch_size': 2, 'train_dataloader.dataset': {},
          'default_hooks.checkpoint.save_best': 'seg/mIoU'}  # fmt: skip


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
    plain = cards.config_settings(load_config(path))
    moved = {'train_dataloader.num_workers': 0, 'train_dataloader.dataset.data_root': 'x', 'load_from': 'y.pth'}
    assert cards.config_settings(load_config(path, moved)) == plain
    changed = cards.config_settings(load_config(path, {'model.pseudo_label.fg_threshold': 0.4}))
    assert {key for key in plain | changed if plain.get(key) != changed.get(key)} == {'model.pseudo_label.fg_threshold'}
    assert cards.config_hash(plain) != cards.config_hash(changed)


def test_hash_of_settings_does_not_depend_on_order_or_on_how_a_number_is_written():
    assert cards.config_hash({'a': 1, 'b': [2.0]}) == cards.config_hash({'b': [2], 'a': 1.0})
    assert cards.config_hash({'a': 1}) != cards.config_hash({'a': True})
    assert cards.config_hash({'a': None}) != cards.config_hash({})


def test_code_hash_follows_the_packages_named(tmp_path, monkeypatch):
    for name, text in (('models/net.py', 'a = 1'), ('models/heads/head.py', 'b = 2'), ('utils.py', 'c = 3')):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cards, '_PACKAGE_FOLDER', str(tmp_path))
    wholes = [
        cards.code_hash(),
        cards.code_hash(['models']),
        cards.code_hash(['models.heads']),
        cards.code_hash(['utils']),
    ]
    assert len(set(wholes)) == 4
    assert wholes[0] == cards.code_hash(['utils', 'models']) == cards.code_hash(['models', 'utils', 'models.heads'])
    (tmp_path / 'models' / 'notes.txt').write_text('no code')
    (tmp_path / 'models' / 'net.py').write_text('a = 2')
    changed = [
        cards.code_hash(),
        cards.code_hash(['models']),
        cards.code_hash(['models.heads']),
        cards.code_hash(['utils']),
    ]
    assert [a == b for a, b in zip(wholes, changed)] == [False, False, True, True]
    (tmp_path / 'utils.py').rename(tmp_path / 'tools.py')
    assert cards.code_hash() != changed[0]
    with pytest.raises(ValueError, match='utils'):
        cards.code_hash(['utils'])


def test_code_hash_of_the_package_itself():
    assert cards.code_hash() != cards.code_hash(['functional']) != cards.code_hash(['utils'])


def test_file_hash_is_sha256(tmp_path):
    content = bytes(range(256)) * 5000  # more than is read at a time
    (tmp_path / 'a.bin').write_bytes(content)
    assert cards.file_hash(tmp_path / 'a.bin') == hashlib.sha256(content).hexdigest()
    with pytest.raises(MissingFileError, match=r'b\.bin'):
        cards.file_hash(tmp_path / 'b.bin')


@pytest.fixture
def data(tmp_path):
    """A data root with three pictures, one in a sub-folder, and a function that makes another one."""

    def make(name):
        folder = tmp_path / name
        for path in ('JPEGImages/sub', 'SegmentationClass/sub', 'ImageSets/Segmentation'):
            (folder / path).mkdir(parents=True)
        for image_id in ('a', 'b', 'sub/c', 'other'):
            (folder / 'JPEGImages' / f'{image_id}.jpg').write_bytes(b'12')
            (folder / 'SegmentationClass' / f'{image_id}.png').write_bytes(b'123')
        (folder / SPLIT).write_text('a\nb\nsub/c\n')
        (folder / 'labels.json').write_text('{}')
        return folder

    return make


SPLIT = 'ImageSets/Segmentation/train.txt'


def fingerprint(root, **options):
    return cards.data_fingerprint(str(root), SPLIT, **options)


def test_fingerprint_does_not_depend_on_the_place(data):
    a, b = data('one'), data('two')
    assert fingerprint(a) == fingerprint(b) == cards.data_fingerprint(str(a), str(b / SPLIT))
    assert fingerprint(a)['pictures'] == 3
    assert len(fingerprint(a)['hash']) == 64


@pytest.mark.parametrize(
    ('path', 'content', 'seen'),
    [
        ('JPEGImages/sub/c.jpg', '1234', {'sizes', 'full', 'masks', 'labels'}),
        ('JPEGImages/b.jpg', '21', {'full'}),
        ('JPEGImages/other.jpg', '1234', set()),
        ('SegmentationClass/a.png', '1', {'masks'}),
        ('labels.json', '{ }', {'labels'}),
        (SPLIT, 'b\na\nsub/c\n', {'sizes', 'full', 'masks', 'labels'}),
        (SPLIT, 'a\nb\n', {'sizes', 'full', 'masks', 'labels'}),
    ],
)
def test_fingerprint_sees_what_it_is_asked_to(data, path, content, seen):
    root = data('one')
    options = {
        'sizes': {}, 'full': {'full': True}, 'labels': {'label_file': 'labels.json'},
        'masks': {'folders': (('JPEGImages', '.jpg'), ('SegmentationClass', '.png'))},
    }  # fmt: skip
    before = {name: fingerprint(root, **option) for name, option in options.items()}
    assert len({entry['hash'] for entry in before.values()}) == 4
    (root / path).write_text(content)
    assert {name for name, option in options.items() if fingerprint(root, **option) != before[name]} == seen


def test_fingerprint_names_what_is_missing(data):
    root = data('one')
    (root / 'JPEGImages' / 'sub' / 'c.jpg').unlink()
    with pytest.raises(MissingFileError, match=r'1 of 3 files .* sub/c\.jpg'):
        fingerprint(root)
    with pytest.raises(MissingFileError, match='Masks'):
        fingerprint(root, folders=(('Masks', '.png'),))
    with pytest.raises(MissingFileError, match=r'none\.json'):
        fingerprint(data('two'), label_file='none.json')


def test_versions_are_those_of_the_modules():
    import mmseg
    import torch

    found = cards.versions()
    assert (found['torch'], found['mmseg']) == (torch.__version__, mmseg.__version__)
    assert {'python', 'numpy', 'mmengine', 'mmcv', 'csrm_plugin'} <= found.keys()
    assert all(type(version) is str for version in found.values())


def git(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    identity = ('-c', 'user.name=t', '-c', 'user.email=t@example.org', '-c', 'commit.gpgsign=false')
    subprocess.run(['git', '-C', folder, *identity, *arguments], check=True, capture_output=True, env=environment)


def test_git_revision_follows_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert cards.git_revision(tmp_path / 'nowhere') is None
    git(tmp_path, 'init', '-q')
    assert cards.git_revision(tmp_path) is None
    (tmp_path / 'a.txt').write_text('1')
    git(tmp_path, 'add', 'a.txt')
    git(tmp_path, 'commit', '-q', '-m', 'first')
    clean = cards.git_revision(tmp_path)
    assert len(clean['revision']) == 40 and clean['dirty'] is False
    (tmp_path / 'b.txt').write_text('untracked')
    assert cards.git_revision(tmp_path) == clean
    (tmp_path / 'a.txt').write_text('2')
    assert cards.git_revision(tmp_path) == {**clean, 'dirty': True}


def test_git_revision_of_a_package_that_git_does_not_track_is_none(tmp_path, monkeypatch):
    git(tmp_path, 'init', '-q')
    (tmp_path / 'a.txt').write_text('1')
    git(tmp_path, 'add', 'a.txt')
    git(tmp_path, 'commit', '-q', '-m', 'first')
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / '__init__.py').touch()
    monkeypatch.setattr(cards, '_PACKAGE_FOLDER', str(tmp_path / 'site'))
    assert cards.git_revision() is None
    git(tmp_path, 'add', 'site/__init__.py')
    assert cards.git_revision()['dirty'] is True
    monkeypatch.setenv('PATH', str(tmp_path / 'empty'))
    assert cards.git_revision() is None


def test_host_names_gpus_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(cards, '_output', lambda command: 'One GPU\nAnother GPU')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert cards.host()['gpus'] == ['One GPU', 'Another GPU']
    for visible, expected in (('1', ['Another GPU']), ('', []), ('GPU-uuid', ['One GPU', 'Another GPU'])):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
        assert cards.host()['gpus'] == expected
    monkeypatch.setattr(cards, '_output', lambda command: None)
    assert cards.host()['gpus'] == []
    assert set(cards.host()) == {'cpus', 'gpus'} and cards.host()['cpus'] >= 1
