import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint

from csrm_plugin.config.load import load_config
from csrm_plugin.models.checkpoints.prediction import (
    build_for_prediction,
    load_model,
    prediction_settings,
    without_initialisation,
)
from csrm_plugin.utils import MissingFileError, UserError


@pytest.fixture
def no_crf_package(monkeypatch):
    """dCRF cannot be imported, as on a machine that only predicts."""
    monkeypatch.setitem(sys.modules, 'pydensecrf', None)


@pytest.fixture
def cfg_of(root):
    """Function: config of the project."""
    return lambda name, **options: load_config(str(root / 'mmcfg' / f'{name}.py'), options or None)


@pytest.fixture
def changed(checkpoint_of, tmp_path):
    """Function: checkpoint of a config after ``change`` was called with its state dict."""

    def make(name, change):
        content = torch.load(checkpoint_of(name), weights_only=True)
        content['state_dict'] = change(dict(content['state_dict']))
        torch.save(content, tmp_path / 'changed.pth')
        return str(tmp_path / 'changed.pth')

    return make


def without_bank(state):
    return {name: value for name, value in state.items() if not name.startswith('bank.')}


def small_bank(state):
    return state | {name: state[name][:, :3] for name in ('bank.features', 'bank.pushed_at')}


def same_weights(model, path):
    state = torch.load(path, weights_only=True)['state_dict']
    own = {name: value for name, value in model.state_dict().items() if not name.startswith('bank.')}
    return own.keys() == without_bank(state).keys() and all(value.equal(state[name]) for name, value in own.items())


@pytest.mark.parametrize('name', ['csrm_demo', 'rml_demo', 'cam_demo', 'puzzle_demo'])
def test_no_model_needs_the_package_of_dcrf_to_predict(cfg_of, checkpoint_of, no_crf_package, name):
    options = {} if name in ('cam_demo', 'puzzle_demo', 'rml_demo') else {'model.pseudo_label.crf': {}}
    path = checkpoint_of(name)
    model = load_model(cfg_of(name, **options), path)
    assert not model.training and same_weights(model, path)


@pytest.mark.parametrize('change', [dict, without_bank, small_bank])
def test_what_a_checkpoint_holds_of_the_bank_does_not_matter(cfg_of, changed, change, logged, recwarn):
    path = changed('csrm_demo', change)
    model = load_model(cfg_of('csrm_demo'), path)
    assert model.bank.features.shape[1] == model.bank.capacity == 1
    assert same_weights(model, path)
    assert not logged and not [one for one in recwarn if 'bank' in str(one.message)]


@pytest.mark.parametrize('change', [dict, without_bank, small_bank])
def test_nor_does_it_for_the_loader_of_the_host(cfg_of, changed, change, logged):
    model = build_for_prediction(cfg_of('csrm_demo'))
    path = changed('csrm_demo', change)
    load_checkpoint(model, path, map_location='cpu', strict=True, logger=MMLogger.get_current_instance())
    assert same_weights(model, path) and model.bank.capacity == 1
    assert not [message for message in logged if 'bank' in message or 'match' in message]


def test_a_checkpoint_of_a_plain_network_is_both_student_and_teacher(cfg_of, changed):
    def plain(state):
        return {name[len('teacher.') :]: value for name, value in state.items() if name.startswith('teacher.')}

    state = torch.load(changed('csrm_demo', plain), weights_only=True)['state_dict']
    model = load_model(cfg_of('csrm_demo'), changed('csrm_demo', plain))
    for network in (model.student, model.teacher):
        own = network.state_dict()
        assert own.keys() == state.keys() and all(value.equal(state[name]) for name, value in own.items())


@pytest.mark.parametrize(
    'lost', ['teacher.decode_head.conv_seg.weight', 'student.backbone.stem.0.weight', 'teacher.cam_head.conv.weight']
)
def test_any_other_tensor_that_is_not_there_is_an_error(cfg_of, changed, lost):
    def lose(state):
        state.pop(lost)
        return state

    with pytest.raises(UserError, match=rf'is not one of this config .*: 1 of its .* for example {lost}'):
        load_model(cfg_of('csrm_demo'), changed('csrm_demo', lose))
    with pytest.raises(UserError, match=rf'another shape, for example {lost}'):
        load_model(cfg_of('csrm_demo'), changed('csrm_demo', lambda state: state | {lost: state[lost][:1]}))


def test_a_checkpoint_of_another_model_is_refused(root, demo_options, checkpoint_of, tmp_path):
    cfg = load_config(str(root / 'mmcfg' / 'csrm_demo.py'), demo_options)
    with pytest.raises(UserError, match=r'is not one of this config .* tensors are not in it or have another shape'):
        load_model(cfg, checkpoint_of('cam_demo'))
    with pytest.raises(MissingFileError, match='no checkpoint file'):
        load_model(cfg, str(tmp_path / 'nowhere.pth'))
    (tmp_path / 'cut.pth').write_bytes(Path(checkpoint_of('csrm_demo')).read_bytes()[:5000])
    with pytest.raises(UserError, match='truncated'):
        load_model(cfg, str(tmp_path / 'cut.pth'))


def test_a_file_without_tensors_is_named(cfg_of, tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match=r'list\.pth`: The checkpoint holds no tensors'):
        load_model(cfg_of('csrm_demo'), str(tmp_path / 'list.pth'))
    with pytest.raises(UserError, match='has no model'):
        build_for_prediction(Config({}, filename=None))


def test_settings_are_a_copy_without_initialisation_and_without_batch_norm_over_gpus():
    model = dict(
        type='EncoderDecoder',
        pretrained='a.pth',
        backbone=dict(type='ResNetV1c', norm_cfg=dict(type='SyncBN'), init_cfg=dict(type='Pretrained')),
        decode_head=[dict(type='FCNHead', init_cfg=dict(type='Normal'))],
    )
    before = repr(model)
    assert prediction_settings(model).to_dict() == dict(
        type='EncoderDecoder',
        backbone=dict(type='ResNetV1c', norm_cfg=dict(type='BN')),
        decode_head=[dict(type='FCNHead')],
        test_cfg=dict(mode='whole'),
    )
    assert repr(model) == before
    assert without_initialisation((dict(init_cfg=1), [2])) == ({}, [2])


def test_a_model_within_test_time_augmentation_only_predicts_as_well(cfg_of):
    cfg = cfg_of('csrm_demo')
    inner = prediction_settings(dict(type='WSSSTTAModel', module=cfg.model)).module
    assert inner == prediction_settings(cfg.model)
    assert inner.bank_capacity == 1 != cfg.model.get('bank_capacity', 256)


def test_a_class_that_says_nothing_is_left_as_it_is(cfg_of):
    settings = cfg_of('cam_demo').model
    assert prediction_settings(settings).to_dict() == without_initialisation(settings)
    assert prediction_settings(dict(type='NobodyKnowsIt', init_cfg=1)).to_dict() == dict(type='NobodyKnowsIt')


def test_a_frozen_teacher_gives_way_to_the_student_which_is_said(cfg_of, changed, logged):
    path = changed('csrm_demo', lambda state: state | {'teacher_frozen': torch.tensor(1)})
    model = load_model(cfg_of('csrm_demo'), path)
    assert model.predicting == 'student'
    assert any('the student predicts, for the teacher is frozen in the warm-up' in text for text in logged)


def test_checkpoints_from_before_that_was_noted_are_complete(cfg_of, changed, logged):
    def older(state):
        return {name: value for name, value in state.items() if name != 'teacher_frozen'}

    assert load_model(cfg_of('csrm_demo'), changed('csrm_demo', older)).predicting == 'teacher' and not logged
