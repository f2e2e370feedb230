import sys

import pytest
import torch
from mmengine.runner import load_checkpoint, save_checkpoint

from csrm_plugin.models.segmentors import TeacherStudent
from csrm_plugin.utils import UserError


@pytest.fixture
def log(monkeypatch):
    """What the model reports while it loads a checkpoint."""
    lines = []
    monkeypatch.setattr(
        sys.modules[TeacherStudent.__module__], 'print_log', lambda message, *_, **__: lines.append(message)
    )
    return lines


def disturb(module):
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand_like(value))
        else:
            value.add_(7)


def test_starts_with_teacher_equal_to_student(build):
    model = build('CSRM')
    first = model.student.cam_head.conv.weight.clone()
    for _ in range(2):
        teacher = model.teacher.state_dict()
        assert all(value.equal(teacher[name]) for name, value in model.student.state_dict().items())
        model.init_weights()
    assert not model.student.cam_head.conv.weight.equal(first)


def test_teacher_stays_in_evaluation_mode(build):
    model = build('CSRM')
    for mode in (True, False, True):
        assert model.train(mode) is model
        assert all(module.training == mode for module in model.student.modules())
        assert not any(module.training for module in model.teacher.modules())


@pytest.mark.parametrize('decay', [0.0, 0.25, 0.99])
def test_update_teacher(build, decay):
    model = build('CSRM')
    disturb(model.student)
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    student = {name: value.clone() for name, value in model.student.state_dict().items()}
    model.update_teacher(decay)
    buffers = 0
    for name, value in model.teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, decay * before[name] + (1 - decay) * student[name])
            buffers += 'running' in name
        else:
            assert value.equal(student[name])
        if decay == 0:
            assert value.equal(student[name])
    assert buffers, 'statistics of BatchNorm follow too'
    assert all(value.equal(student[name]) for name, value in model.student.state_dict().items())


@pytest.mark.parametrize('name', ['CAMClassifier', 'EncoderDecoder'])
def test_plain_checkpoint_goes_into_student_and_teacher(build, tmp_path, log, name):
    plain, model = build(name), build('CSRM')
    disturb(plain)
    untouched = {key: value.clone() for key, value in model.state_dict().items()}
    path = str(tmp_path / 'plain.pth')
    save_checkpoint(dict(state_dict=plain.state_dict(), meta={}), path)
    load_checkpoint(model, path, map_location='cpu', strict=True)
    state, given = model.state_dict(), plain.state_dict()
    for key, value in given.items():
        assert state[f'student.{key}'].equal(value) and state[f'teacher.{key}'].equal(value), key
    for key, value in state.items():
        if key.partition('.')[2] not in given:
            assert value.equal(untouched[key]), key
    (report,) = log
    assert 'backbone 10/10' in report
    other = {'CAMClassifier': 'decode_head', 'EncoderDecoder': 'cam_head'}[name]
    assert f'{other} ' in report.split('Not in the checkpoint')[1].split('Other shape')[0]
    assert 'Other shape, not loaded: none' in report and 'In the checkpoint only: none' in report


def test_other_shapes_and_names_are_reported_and_left(build, log):
    plain, model = build('EncoderDecoder').state_dict(), build('CSRM')
    before = model.student.decode_head.conv_seg.weight.clone()
    plain['decode_head.conv_seg.weight'] = torch.zeros(21, 8, 1, 1)
    plain['auxiliary_head.conv_seg.weight'] = torch.zeros(3)
    model.load_state_dict(plain)
    assert model.student.decode_head.conv_seg.weight.equal(before)
    (report,) = log
    assert 'Other shape, not loaded: decode_head 1.' in report
    assert 'In the checkpoint only: auxiliary_head 1.' in report
    total = sum(not key.endswith('num_batches_tracked') for key in plain if key.startswith('decode_head'))
    assert f'decode_head {total - 1}/{total}' in report


@pytest.mark.parametrize('foreign', [{'stem.conv.weight': torch.zeros(3)}, {}])
def test_foreign_checkpoint(build, foreign):
    with pytest.raises(UserError, match=r'fits nowhere.*tools/convert_checkpoint\.py'):
        build('CSRM').load_state_dict(foreign)


def test_own_checkpoint_comes_back_with_the_bank(build, tmp_path, log):
    model, other = build('CSRM'), build('CSRM')
    disturb(model.student)
    disturb(model.teacher)
    model.bank.enqueue(torch.randn(9, 6), torch.arange(9) % 5)
    path = str(tmp_path / 'own.pth')
    save_checkpoint(dict(state_dict=model.state_dict(), meta={}), path)
    load_checkpoint(other, path, map_location='cpu', strict=True)
    state = other.state_dict()
    assert all(value.equal(state[key]) for key, value in model.state_dict().items())
    assert other.bank.keys(1).equal(model.bank.keys(1)) and other.bank.sizes.sum() == 9
    assert log == []
    # Student and teacher of a checkpoint are different networks.
    assert not state['student.cam_head.conv.weight'].equal(state['teacher.cam_head.conv.weight'])


def test_inside_another_module(build, log):
    class Wrapper(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.rest = inner, torch.nn.Linear(1, 1)

    plain, wrapper = build('CAMClassifier'), Wrapper(build('CSRM'))
    disturb(plain)
    state = {f'inner.{key}': value for key, value in plain.state_dict().items()}
    wrapper.load_state_dict(state | {'rest.weight': torch.ones(1, 1), 'rest.bias': torch.ones(1)})
    assert wrapper.inner.student.cam_head.conv.weight.equal(plain.cam_head.conv.weight)
    assert wrapper.rest.weight.item() == 1 and len(log) == 1


def test_a_teacher_that_stands_still_does_not_predict(build, make_batch):
    model = build('CSRM').eval()
    disturb(model.student)
    assert (model.predicting, model.weights_note, model.predictor) == ('teacher', '', model.teacher)
    model.update_teacher(1)
    assert model.predicting == 'student' and model.predictor is model.cam_network is model.student
    assert model.weights_note == 'the teacher is frozen in the warm-up'
    shown = model.test_step(make_batch((32, 32)))[0].cam_logits.data
    model.update_teacher(0.5)
    assert (model.predicting, model.weights_note, model.predictor) == ('teacher', '', model.teacher)
    assert not model.test_step(make_batch((32, 32)))[0].cam_logits.data.equal(shown)
    asked = build('CSRM', test_cfg=dict(network='student'))
    asked.update_teacher(1)
    assert (asked.predicting, asked.weights_note) == ('student', ''), 'as asked for'


@pytest.mark.parametrize('decay', [1, 0.5])
def test_a_checkpoint_says_whether_the_teacher_stood_still(build, decay, log):
    model, other = build('CSRM'), build('CSRM')
    model.update_teacher(decay)
    other.update_teacher(1.5 - decay)
    other.load_state_dict(model.state_dict(), strict=True)
    assert other.predicting == {1: 'student', 0.5: 'teacher'}[decay]


def test_checkpoints_that_do_not_say_have_a_teacher_that_learnt(build, log):
    model = build('CSRM')
    state = {name: value for name, value in model.state_dict().items() if name != 'teacher_frozen'}
    for given in (state, build('CAMClassifier').state_dict()):
        model.update_teacher(1)
        model.load_state_dict(dict(given), strict=True)
        assert model.predicting == 'teacher'
    assert 'In the checkpoint only: none' in log[0]
