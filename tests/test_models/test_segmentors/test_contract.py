"""What hooks, tools and reports ask of a segmentor: every one that the package registers gives it."""

import copy

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from csrm_plugin.engine.hooks.collapse_alarm_hook import diagnose
from csrm_plugin.models.segmentors import CSRM, PseudoLabeler, WSSSSegmentor
from csrm_plugin.models.segmentors.views import TrainingView
from csrm_plugin.models.segmentors.wsss_segmentor import STATISTICS
from csrm_plugin.utils.label_sources import SOURCES

RML = dict(
    type='RML',
    affinity_head=dict(type='AttentionAffinityHead', in_channels=16, embed_dims=8, num_heads=2),
    context_head=dict(type='ContextHead', in_channels=[8, 16], channels=3),
    loss_instance=dict(type='InstanceMutualLoss'),
    loss_feature=dict(type='FeatureMutualLoss'),
    loss_pixel=dict(type='PixelMutualLoss'),
    pseudo_label=dict(par=dict(iterations=2, dilations=[1, 2])),
    view_scale=0.5,
    radius=2,
)
#: What beside the tiny classifier of the tests a segmentor is built from; a new one needs an entry here.
BUILT_FROM = {'CAMClassifier': ('CAMClassifier', {}), 'PuzzleCAM': ('PuzzleCAM', {}), 'CSRM': ('CSRM', {})}
BUILT_FROM['RML'] = ('CAMClassifier', RML)


def registered():
    """Names of the segmentors that the package registers; one without a config of its own is a base class."""
    return sorted(
        name
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, WSSSSegmentor) and cls.__module__.startswith('csrm_plugin.')
    )


def test_every_registered_segmentor_is_looked_at():
    assert registered() == sorted(BUILT_FROM)


@pytest.fixture(params=sorted(BUILT_FROM))
def model(request, build):
    name, changes = BUILT_FROM[request.param]
    return build(name, **copy.deepcopy(changes))


@pytest.fixture
def batch(model, make_batch):
    data = model.data_preprocessor(make_batch(), True)
    return data['inputs'], data['data_samples']


def test_losses_are_scalars_and_statistics_have_the_names_that_the_alarm_reads(model, batch):
    losses = model.loss(*batch)
    added = {name: value for name, value in losses.items() if 'loss' in name}
    assert 'loss_c' in added
    assert all(value.ndim == 0 and value.requires_grad and value.isfinite() for value in added.values())
    told = {name: float(losses[name]) for name in STATISTICS if name in losses}
    assert all(0 <= value <= 1.5 for value in told.values())
    if model.labeler is not None:
        assert {'reliable/s', 'pseudo/foreground'} <= set(told), 'a model with pseudo labels says what they cover'
    for name in STATISTICS:  # the alarm reads each of them
        limit = 1.0 if name == 'contrast/chance' else 0.0
        assert diagnose({name: limit}), name


def test_hooks_find_what_they_set(model, batch):
    for name in ('warmup_factor', 'warmup_iters'):
        assert hasattr(model, name) == hasattr(model, 'mutual_losses'), name
    if hasattr(model, 'warmup_factor'):
        model.warmup_factor = 0.0
        losses = model.loss(*batch)
        assert all(value == 0 for name, value in losses.items() if name.startswith('loss') and name not in OWN)
    assert isinstance(type(model).starts_from_classifier, bool)


#: Losses that the warm-up leaves alone.
OWN = ('loss_c', 'loss_s')


def test_predictions_hold_what_scores_and_pictures_need(model, make_batch):
    sizes = ((32, 32), (32, 32))
    for sample, size in zip(model.eval().test_step(make_batch(*sizes)), sizes):
        assert sample.cam_logits.data.shape == (4, *size)
        scores = sample.pred_image_labels.scores
        assert scores.shape == (4,) and 0 <= scores.min() <= scores.max() <= 1
        assert sample.pseudo_label['source'] in SOURCES
        assert sample.pred_sem_seg.data.shape == (1, *size)
        if 'propagated_cam' in sample:
            assert sample.propagated_cam.data.shape == (4, *size)
        if 'affinity' in sample:
            rows, columns = sample.affinity.grid
            assert sample.affinity.data.shape == (1, rows * columns, rows * columns)


def test_classifies_as_its_head_pools(model):
    cam = torch.randn(2, 4, 3, 5)
    assert isinstance(model.cam_network, nn.Module) and hasattr(model.cam_network, 'extract_feat')
    assert model.classify(cam).equal(model.cam_network.cam_head.classify(cam))


def test_says_how_it_is_to_be_drawn(model, batch):
    view = model.eval().training_view(*batch)
    assert isinstance(view, TrainingView) and view.cam.shape[:2] == (4, 4) and view.whose
    assert isinstance(model.training_note, str)
    assert model.segmentation_note is None or isinstance(model.segmentation_note, str)
    picture = np.zeros((20, 30, 3), np.uint8)
    made = model.training_labels(picture, torch.randn(4, 20, 30), torch.tensor([1.0, 0, 0, 1]))
    if model.labeler is None:
        assert made is None and view.pseudo_labels is None
    else:
        assert isinstance(model.labeler, PseudoLabeler) and model.labeler.note() in model.training_note
        assert made.shape == (20, 30) and set(made.unique().tolist()) <= {0, 1, 4, 255}
        assert view.pseudo_labels.shape[0] == 4 and view.how == model.labeler.caption()


def test_views_of_a_prediction_can_be_set_where_there_are_any(model):
    if model.prediction_views is None:
        return
    model.prediction_views = ((1.0,), False)
    assert model.prediction_views == ((1.0,), False)


def test_settings_for_predictions_need_no_refinement_and_little_memory(model, build):
    settings = dict(pseudo_label=dict(refine='crf'), bank_capacity=30000)
    kept = type(model).prediction_settings(settings)
    assert settings == dict(pseudo_label=dict(refine='crf'), bank_capacity=30000), 'the settings given stay as they are'
    if model.labeler is not None:
        assert kept['pseudo_label']['refine'] == 'none'
    if hasattr(model, 'bank'):
        assert kept['bank_capacity'] == 1


def test_settings_of_a_subclass_keep_those_of_its_bases():
    class OfMyOwn(CSRM):
        SETTINGS = {'mine': ('key',)}

    kept = OfMyOwn.prediction_settings(dict(pseudo_label=None))
    assert kept['pseudo_label'] == dict(refine='none', crf=None) and kept['bank_capacity'] == 1
