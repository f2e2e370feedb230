import json
import subprocess
import sys
from pathlib import Path

import mmcv
import pytest
import torch
from mmseg.apis import inference_model, init_model

from csrm_plugin.datasets.synthetic_dataset import SyntheticWSSSDataset
from csrm_plugin.inference.export_model import export, export_model, parse_size
from csrm_plugin.utils import UserError

METAINFO = SyntheticWSSSDataset.METAINFO


ROOT = Path(__file__).parents[3]


def logits_of(model, picture):
    return inference_model(model, picture).seg_logits.data


def load(folder):
    """The exported model, as the host loads it."""
    return init_model(str(folder / 'config.py'), str(folder / 'model.pth'), device='cpu')


def test_exported_teacher_is_a_plain_model_that_predicts_like_csrm(csrm, picture, tmp_path):
    report = export_model(*csrm, tmp_path / 'new' / 'out')
    assert sorted(path.name for path in (tmp_path / 'new').rglob('*')) == [
        'config.py',
        'export.json',
        'model.pth',
        'out',
    ]
    assert report == json.loads((tmp_path / 'new' / 'out' / 'export.json').read_text()) | {
        'model.pth': report['model.pth']
    }
    assert report['network'] == 'teacher' and report['classes'] == list(METAINFO['classes'])
    assert 0 <= report['model.pth']['max_abs_diff'] <= 1e-5

    model = load(tmp_path / 'new' / 'out')
    assert type(model).__name__ == 'EncoderDecoder'
    assert model.dataset_meta == dict(classes=list(METAINFO['classes']), palette=[list(c) for c in METAINFO['palette']])
    mmcv.imwrite(picture, str(tmp_path / 'picture.png'))
    ours = init_model(*csrm, device='cpu')
    expected = logits_of(ours, str(tmp_path / 'picture.png'))
    torch.testing.assert_close(logits_of(model, str(tmp_path / 'picture.png')), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits_of(model, picture), expected, rtol=0, atol=1e-5)
    assert expected.shape == (7, 50, 70) and expected.std() > 0.01

    meta = torch.load(tmp_path / 'new' / 'out' / 'model.pth', weights_only=True)['meta']
    assert {name: meta[name] for name in ('epoch', 'iter', 'network', 'source')} == dict(
        epoch=3, iter=30, network='teacher', source='epoch_3.pth'
    )


def test_host_alone_understands_config_and_checkpoint(csrm, tmp_path):
    export_model(*csrm, tmp_path / 'out')
    text = (tmp_path / 'out' / 'config.py').read_text()
    assert '_base_' not in text and 'csrm' not in text.lower() and 'WSSS' not in text
    state = torch.load(tmp_path / 'out' / 'model.pth', weights_only=True)['state_dict']
    assert {name.split('.')[0] for name in state} == {'backbone', 'decode_head'}
    code = f"""
import importlib.util, sys
import numpy as np
# What the host needs on this Python and torch, without the package around it.
spec = importlib.util.spec_from_file_location('compat', {str(ROOT / 'csrm_plugin' / 'compat.py')!r})
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat.apply()
from mmseg.apis import inference_model, init_model
model = init_model('config.py', 'model.pth', device='cpu')
assert inference_model(model, np.zeros((20, 30, 3), np.uint8)).pred_sem_seg.data.shape == (1, 20, 30)
assert not [name for name in sys.modules if name.startswith('csrm_plugin')]
"""
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, cwd=tmp_path / 'out')


def test_student_is_another_network_and_the_config_may_ask_for_it(csrm, picture, tmp_path):
    student = export_model(*csrm, tmp_path / 'a', network='student')
    option = export_model(*csrm, tmp_path / 'b', cfg_options={'model.test_cfg.network': 'student'})
    teacher = export_model(*csrm, tmp_path / 'c', 'teacher', cfg_options={'model.test_cfg.network': 'student'})
    assert [report['network'] for report in (student, option, teacher)] == ['student', 'student', 'teacher']
    state = torch.load(csrm[1], weights_only=True)['state_dict']
    for folder, name in (('a', 'student'), ('b', 'student'), ('c', 'teacher')):
        exported = torch.load(tmp_path / folder / 'model.pth', weights_only=True)['state_dict']
        assert all(torch.equal(value, state[f'{name}.{key}']) for key, value in exported.items())
    student, teacher = (logits_of(load(tmp_path / folder), picture) for folder in 'ac')
    assert (student - teacher).abs().max() > 0.01


def test_a_teacher_that_has_not_learnt_is_not_exported(csrm, tmp_path):
    content = torch.load(csrm[1], weights_only=True)
    content['state_dict']['teacher_frozen'] = torch.tensor(1)
    torch.save(content, tmp_path / 'early.pth')
    early = csrm[0], str(tmp_path / 'early.pth')
    for asked in ({}, {'network': 'teacher'}):
        with pytest.raises(UserError, match=r'early\.pth` is of a warm-up.*`--network student`'):
            export_model(*early, tmp_path / 'out', **asked)
    assert export_model(*early, tmp_path / 'out', network='student')['network'] == 'student'


def test_an_output_that_differs_leaves_nothing_behind(csrm, tmp_path, monkeypatch):
    write_plain = export.write_plain

    def write_wrong(folder, plain, network, meta):
        with torch.no_grad():
            network.decode_head.conv_seg.bias[0] += 1e-3
            write_plain(folder, plain, network, meta)
            network.decode_head.conv_seg.bias[0] -= 1e-3

    monkeypatch.setattr(export, 'write_plain', write_wrong)
    with pytest.raises(UserError, match=r'model\.pth gives other seg_logits .* by up to 0\.001, more than 1e-05'):
        export_model(*csrm, tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_sizes():
    assert parse_size('48x640') == (48, 640)
    for text in ('48', '0x3', '4x5x6', '-1x2', 'axb'):
        with pytest.raises(UserError, match='--size must be HxW'):
            parse_size(text)
