from dataclasses import replace
from types import SimpleNamespace

import pytest
from torch import nn

from csrm_plugin.engine.diagnosis import (
    Circumstances,
    circumstances_of,
    diagnose_loss,
    diagnose_validation,
    likely_cause,
)

KNOWN = Circumstances(lr=0.01)
#: What networks that have learnt score: a classifier with CAMs, and a segmentation.
CLASSIFIER = {
    'cls/mAP': 91.7,
    'cls/chance': 21.0,
    'cam/mIoU': 38.0,
    'cam/background_only': 10.3,
    'cam/foreground': 30.0,
}
SEGMENTATION = {'seg/mIoU': 40.0, 'seg/background_only': 10.3, 'seg/foreground': 20.0, 'seg/largest': 80.0}


@pytest.mark.parametrize(
    ('changes', 'finding', 'part'),
    [
        ({'cls/mAP': 20.7}, 'the classifier tells no classes apart', '`cls/mAP` is 20.7'),
        ({'cls/mAP': 24.0}, 'the classifier tells no classes apart', 'get 21.0'),
        ({'cam/mIoU': 10.4, 'cam/foreground': 0.0}, 'the CAMs show nothing', 'with 0.0% of the pixels as objects'),
        ({'seg/foreground': 0.4}, 'the segmentation predicts background only', '0.4% of the pixels'),
        ({'seg/foreground': 99.9, 'seg/largest': 99.5}, 'the segmentation predicts one class only', '99.5%'),
        ({'seg/mIoU': 2.0}, 'the segmentation is no better than background', '`seg/mIoU` is 2.0'),
        ({'affinity/AUC': 49.0}, 'the affinity tells nothing apart', '`affinity/AUC` is 49.0'),
    ],
)
def test_validations(changes, finding, part):
    found = diagnose_validation(CLASSIFIER | SEGMENTATION | changes, KNOWN)
    assert list(found) == [finding] and part in found[finding]
    if finding != 'the affinity tells nothing apart':
        assert 'Likely cause: the learning rate is too high for this backbone' in found[finding]
        assert '(`optim_wrapper.optimizer.lr` is 0.01; try a tenth of it)' in found[finding]


@pytest.mark.parametrize('metrics', [CLASSIFIER, SEGMENTATION, CLASSIFIER | SEGMENTATION | {'affinity/AUC': 70.0}, {}])
def test_what_has_learnt_or_was_not_scored_is_not_spoken_of(metrics):
    assert diagnose_validation(metrics, KNOWN) == {}


def test_what_follows_from_a_blind_classifier_is_left_out():
    collapsed = {'cls/mAP': 20.7, 'cam/mIoU': 10.3, 'seg/foreground': 0.0, 'seg/mIoU': 10.3}
    assert len(diagnose_validation(CLASSIFIER | SEGMENTATION | collapsed, KNOWN)) == 1


def test_a_classifier_that_is_blind_in_validation_alone():
    """A backbone whose statistics are off, or labels of other pictures: the learning rate is not to blame."""
    known = replace(KNOWN, loss_ratio=0.3)
    (text,) = diagnose_validation({'cls/mAP': 21.0, 'cls/chance': 21.0}, known).values()
    assert '`loss_c` is 30%' in text and 'norm_eval' in text and 'learning rate' not in text


def test_a_segmentation_that_waits_for_mutual_terms_has_other_causes():
    (text,) = diagnose_validation({'seg/foreground': 0.0}, replace(KNOWN, mutual=True)).values()
    assert 'WarmupHook' in text and 'model.test_cfg.threshold' in text
    (text,) = diagnose_validation({'seg/foreground': 0.0}, replace(KNOWN, labelled=0.3)).values()
    assert 'pseudo_label_dir' not in text, 'its label maps have objects'


def test_the_loss():
    assert diagnose_loss(0.2, 0.5, KNOWN) == diagnose_loss(0.474, 0.5, KNOWN) == {}
    (text,) = diagnose_loss(0.49, 0.5, KNOWN).values()
    assert text.startswith('`loss_c` is 0.49, and always saying how often each class occurs costs 0.5. Likely cause')
    (text,) = diagnose_loss(0.7, 0.5, replace(KNOWN, best_ratio=0.4)).values()
    assert 'It had been down to 40% of that.' in text
    assert list(diagnose_loss(0.7, 0.0, KNOWN)) == ['the image-level labels say nothing']


def test_causes_in_order():
    random = replace(KNOWN, from_scratch=True)
    assert likely_cause(random).startswith('Likely cause: the backbone starts from random weights')
    assert likely_cause(replace(random, best_ratio=0.4)).startswith('Likely cause: the learning rate')
    assert 'from 2 pictures' in likely_cause(replace(KNOWN, norm_pictures=2))
    assert 'BatchNorm' not in likely_cause(replace(KNOWN, norm_pictures=16))
    assert '(`optim_wrapper.optimizer.lr`; try' in likely_cause(Circumstances())


def runner(backbone=None, settings=None, **cfg):
    model = SimpleNamespace(backbone=backbone)
    return SimpleNamespace(model=model, cfg={'model': {'backbone': settings or {'type': 'X'}}, **cfg})


def test_circumstances():
    norm = nn.Sequential(nn.BatchNorm2d(2))
    found = circumstances_of(runner(norm, train_dataloader={'batch_size': 4}, optim_wrapper={'optimizer': {'lr': 0.5}}))
    assert found == Circumstances(lr=0.5, from_scratch=True, norm_pictures=4)
    assert circumstances_of(runner(norm.eval(), train_dataloader={'batch_size': 4})).norm_pictures is None
    assert circumstances_of(runner()) == Circumstances()
    waiting = runner()
    waiting.model = SimpleNamespace(student=waiting.model, warmup_factor=0.0)
    assert circumstances_of(waiting).mutual


@pytest.mark.parametrize(
    ('settings', 'cfg', 'random'),
    [
        ({}, {}, True),
        ({'init_cfg': None}, {}, True),
        ({'init_cfg': {'type': 'Pretrained', 'checkpoint': 'a.pth'}}, {}, False),
        ({'checkpoint_path': 'a.pth'}, {}, False),
        ({'pretrained': True}, {}, False),
        ({}, {'load_from': 'a.pth'}, False),
        ({}, {'resume': True}, False),
    ],
)
def test_where_a_backbone_starts(settings, cfg, random):
    assert circumstances_of(runner(nn.Identity(), {'type': 'X', **settings}, **cfg)).from_scratch is random


def test_weights_that_could_not_be_had_are_noted():
    backbone = nn.Identity()
    backbone.starts_from_scratch = True  # by OptionalPretrained
    assert circumstances_of(runner(backbone, {'init_cfg': {'type': 'OptionalPretrained'}})).from_scratch
