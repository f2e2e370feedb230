import sys

import pytest
import torch
from torch import nn

from csrm_plugin.inference.benchmark.candidates import Candidate, build_model, read_any_config
from csrm_plugin.models.segmentors import RML

SEGFORMER = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


class Averaging(nn.Module):
    """Averages views by itself, as a model of any method may."""

    prediction_views = ((1.0,), False)

    def predict(self, inputs):
        self.asked = [*getattr(self, 'asked', []), (tuple(inputs.shape[2:]), self.prediction_views)]


def test_a_model_with_views_of_its_own_is_told_them_and_predicts_once():
    model = Averaging()
    Candidate('toy', model, scales=(0.5, 1.0), flip=True).predict(torch.randn(1, 3, 8, 8))
    assert model.asked == [((8, 8), ((0.5, 1.0), True))]


def test_built_networks_need_no_weights_and_no_gpu(root, monkeypatch):
    monkeypatch.setattr(torch.hub, 'download_url_to_file', pytest.fail)
    cfg = read_any_config(SEGFORMER)
    model = build_model(cfg, SEGFORMER, 4)
    assert not model.training and not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert cfg.model.decode_head.num_classes == 150  # as it was
    rml = build_model(read_any_config(str(root / 'mmcfg' / 'rml_voc.py')), 'rml', 4)
    assert isinstance(rml, RML) and rml.cam_head.num_classes == 3


def test_a_network_to_compare_needs_nothing_of_the_training(root, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf', None)
    config = str(root / 'mmcfg' / 'csrm_voc_released.py')
    model = build_model(read_any_config(config), config, 3)
    assert model.bank.capacity == 1 and model.labeler.refinement is None
