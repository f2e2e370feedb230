import pytest
import torch

from csrm_plugin.config.load import load_config
from csrm_plugin.inference.audit_labels.network import load_cam_model, settings_in_force
from csrm_plugin.utils import UserError


def config(root, name):
    return load_config(str(root / 'mmcfg' / f'{name}.py'))


def test_a_network_without_cams_is_refused(root, checkpoint_of):
    with pytest.raises(UserError, match=r'a EncoderDecoder has no CAM .*evaluate_labels'):
        load_cam_model(config(root, 'deeplabv2_r18_demo_pseudo'), checkpoint_of('cam_demo'), 'cpu')


def test_a_checkpoint_of_something_else_is_refused(root, checkpoint_of, tmp_path):
    with pytest.raises(UserError, match='is not one of this config'):
        load_cam_model(config(root, 'rml_demo'), checkpoint_of('cam_demo'), 'cpu')
    # A classifier that lacks a part of the CAM is no start of a CSRM.
    tensors = torch.load(checkpoint_of('cam_demo'))['state_dict']
    torch.save({name: value for name, value in tensors.items() if 'cam_head' not in name}, tmp_path / 'half.pth')
    with pytest.raises(UserError, match='is not one of this config'):
        load_cam_model(config(root, 'csrm_demo'), str(tmp_path / 'half.pth'), 'cpu')


def test_student_and_teacher_get_the_classifier(root, checkpoint_of):
    tensors = torch.load(checkpoint_of('cam_demo'))['state_dict']
    model, what = load_cam_model(config(root, 'csrm_demo'), checkpoint_of('cam_demo'), 'cpu')
    for network in (model.student, model.teacher):
        assert all(torch.equal(network.state_dict()[name], value) for name, value in tensors.items())
    assert what is not None and not model.training
    model, what = load_cam_model(config(root, 'csrm_demo'), checkpoint_of('csrm_demo'), 'cpu')
    own = torch.load(checkpoint_of('csrm_demo'))['state_dict']
    assert what is None and torch.equal(
        model.teacher.cam_head.state_dict()['conv.weight'], own['teacher.cam_head.conv.weight']
    )


def test_settings_in_force_are_those_of_the_training(root, checkpoint_of):
    """What predicts has no refinement; what is audited has that of the training."""
    cfg = config(root, 'csrm_demo')
    model, _ = load_cam_model(cfg, checkpoint_of('csrm_demo'), 'cpu')
    own = settings_in_force(cfg, model)
    assert model.labeler.refinement is None and own.refine == 'crf' and own.crf is not None
    assert (own.fg_threshold, own.bg_threshold) == (
        cfg.model.pseudo_label.fg_threshold,
        cfg.model.pseudo_label.bg_threshold,
    )
    cfg = config(root, 'rml_demo')
    own = settings_in_force(cfg, load_cam_model(cfg, checkpoint_of('rml_demo'), 'cpu')[0])
    assert (own.refine, own.scales, own.flip) == ('par', (0.75, 1.0, 1.25), True)
    cfg = config(root, 'cam_demo')
    assert settings_in_force(cfg, load_cam_model(cfg, checkpoint_of('cam_demo'), 'cpu')[0]) is None
