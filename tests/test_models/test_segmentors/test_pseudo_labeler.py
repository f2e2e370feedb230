import copy

import numpy as np
import pytest
import torch

from csrm_plugin import functional as F
from csrm_plugin.models.segmentors.pseudo_labeler import (
    PseudoLabeler,
    PseudoLabelSettings,
    average_cam,
    views_title,
)
from csrm_plugin.refine import DenseCRF
from csrm_plugin.utils import UserError

LABELS = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]])


def labeler(**settings):
    return PseudoLabeler(
        PseudoLabelSettings(**{'fg_threshold': 0.6, 'bg_threshold': 0.3, 'refine': 'none', **settings})
    )


def pictures(size, count=3):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8))


def conv_cam(view):
    """A CAM that depends on where things are: five filters of the picture."""
    torch.manual_seed(7)
    return torch.nn.functional.conv2d(view, torch.randn(5, 3, 3, 3), stride=4, padding=1)


def slow_average(cam_of, inputs, size, scales, flip):
    maps = []
    for scale in scales:
        shape = tuple(round(length * scale) for length in inputs.shape[2:])
        view = torch.nn.functional.interpolate(inputs, shape, mode='bilinear', align_corners=False)
        for mirrored in (False, True) if flip else (False,):
            cam = cam_of(view.flip(3) if mirrored else view).relu()
            cam = cam.flip(3) if mirrored else cam
            maps.append(torch.nn.functional.interpolate(cam, size, mode='bilinear', align_corners=False))
    return sum(maps) / len(maps)


@pytest.mark.parametrize('refine', ['none', 'crf', 'par'])
@pytest.mark.parametrize('bg_threshold', [0.3, 0.6])
def test_own_classes_alone_give_exactly_the_labels_of_all_maps(refine, bg_threshold):
    """The old way as the reference: every map upscaled, normalised, and given to the public function."""
    make = labeler(refine=refine, bg_threshold=bg_threshold, par=dict(iterations=2, dilations=[1, 2]))
    torch.manual_seed(0)
    cam, images = torch.randn(3, 5, 6, 8), pictures((24, 32))
    valid = torch.ones(3, 24, 32, dtype=torch.bool)
    valid[1, :, 20:] = False
    upscaled = torch.nn.functional.interpolate(cam, (24, 32), mode='bilinear').masked_fill(~valid[:, None], 0)
    cams = F.normalize_cam(upscaled, labels=LABELS)
    expected = F.cam_pseudo_labels(images, cams, LABELS, 0.6, bg_threshold, make.refinement)
    expected[~valid] = 255
    made = make(cam, LABELS, images, valid, (24, 32))
    assert made.equal(expected) and made.dtype == torch.int64
    assert set(made[0].unique().tolist()) >= {0, 1, 3} and made[2].eq(0).all()


def test_public_function_equals_a_slow_loop():
    torch.manual_seed(1)
    cams = F.normalize_cam(torch.randn(3, 5, 9, 7), labels=LABELS)
    cams[0, 0, 0, 0] = 0.6  # a tie, which the background wins
    made = F.cam_pseudo_labels(None, cams, LABELS, 0.6, 0.3)
    for place in np.ndindex(3, 9, 7):
        scores = [cams[place[0], c, place[1], place[2]].item() for c in range(5)]
        own = [c for c in range(5) if LABELS[place[0], c]]
        best = max(own, key=lambda c: (scores[c], -c), default=None)
        top = -1.0 if best is None else np.float32(scores[best])
        label = best + 1 if top > np.float32(0.6) else 255 if top > np.float32(0.3) else 0
        assert made[place] == label


def test_nothing_but_small_label_maps_goes_to_the_refinement():
    class Recorder:
        title, iterations = 'recorded', 1

        def refine_labels(self, images, labels, num_labels):
            self.given = labels, num_labels
            return labels

    make = labeler()
    make.refinement = Recorder()
    make(torch.randn(3, 5, 6, 8), LABELS, pictures((24, 32)), None, (24, 32))
    maps, counts = make.refinement.given
    assert [m.shape for m in maps] == [(2, 24, 32)] * 3 and {m.dtype for m in maps} == {np.dtype('uint8')}
    assert counts == [3, 2, 1]


def test_one_view_is_the_cam_itself_and_is_not_seen_again():
    make, inputs = labeler(stride=2), torch.randn(3, 3, 32, 40)
    valid, known = torch.ones(3, 32, 40, dtype=torch.bool), conv_cam(inputs)
    made = make.from_views(lambda view: 1 / 0, inputs, LABELS, None, valid, known=known)
    assert made.shape == (3, 16, 20) and made.equal(make(known, LABELS, None, None, (16, 20)))
    assert made.equal(make.from_views(conv_cam, inputs, LABELS, None, valid))
    assert make.view(conv_cam, inputs).equal(known)


@pytest.mark.parametrize('flip', [True, False])
def test_several_views_are_averaged_after_relu(flip):
    make, inputs = labeler(stride=2, scales=(0.5, 1, 1.5), flip=flip), torch.randn(3, 3, 32, 40)
    average = slow_average(conv_cam, inputs, (16, 20), (0.5, 1, 1.5), flip)
    torch.testing.assert_close(average_cam(conv_cam, inputs, (16, 20), (0.5, 1, 1.5), flip), average)
    expected = F.cam_pseudo_labels(None, F.normalize_cam(average, labels=LABELS), LABELS, 0.6, 0.3)
    seen = []

    def spy(view):
        seen.append(tuple(view.shape[2:]))
        return conv_cam(view)

    made = make.from_views(spy, inputs, LABELS, None, torch.ones(3, 32, 40, dtype=torch.bool), conv_cam(inputs))
    assert (made == expected).float().mean() > 0.999
    assert (32, 40) not in seen or (seen.count((32, 40)) == 1 and flip), 'the known CAM is not made again'
    mirrored = average_cam(conv_cam, inputs.flip(3), (16, 20), (0.5, 1), True)
    torch.testing.assert_close(mirrored.flip(3), average_cam(conv_cam, inputs, (16, 20), (0.5, 1), True))


def test_padding_is_uncertain_and_does_not_set_the_maximum():
    cam = torch.tensor([[[[1.0, 0.5, 100.0]]]])
    valid = torch.tensor([[[True, True, False]]])
    assert labeler()(cam, torch.ones(1, 1), None, valid).tolist() == [[[1, 255, 255]]]


def test_notes_and_captions():
    assert labeler().note() == 'fg_threshold 0.6, bg_threshold 0.3 (between the two: hatched), not refined'
    made = labeler(scales=[0.5, 1], flip=True, refine='crf', crf=dict(iterations=3))
    how = 'fg_threshold 0.6, bg_threshold 0.3 (between the two: hatched), dCRF with 3 iterations'
    assert made.note() == f'CAMs of scales 0.5 1 with flip; {how}'
    assert made.caption() == 'fg > 0.6, bg < 0.3, dCRF' and views_title((1,), False) == 'scales 1 without flip'


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(stride=True), 'stride'),
        (dict(stride=0), r'`model\.pseudo_label\.stride`.*0'),
        (dict(scales=(0,)), r'`model\.pseudo_label\.scales`'),
        (dict(scales=()), r'`model\.pseudo_label\.scales`'),
        (dict(fg_threshold=0.2), '`bg_threshold`'),
        (dict(refine='sam'), r'`model\.pseudo_label\.refine`'),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        labeler(**settings)


def test_is_copied_with_its_model_and_closes_its_pool():
    make = labeler(refine='crf', crf=dict(workers=1))
    make(torch.randn(1, 5, 6, 8), LABELS[:1], pictures((6, 8), 1))
    assert make.refinement._pool is not None
    assert isinstance(copy.deepcopy(make).refinement, DenseCRF)
    make.close()
    assert make.refinement._pool is None
    labeler().close()


def test_only_own_classes_are_upscaled(monkeypatch):
    labels, shapes = torch.zeros(2, 80), []
    labels[:, 3], labels[0, 7] = 1, 1
    plain = F.upscale
    monkeypatch.setattr(F, 'upscale', lambda maps, *rest: shapes.append(tuple(maps.shape)) or plain(maps, *rest))
    labeler()(torch.randn(2, 80, 8, 8), labels, None, None, (64, 64))
    assert shapes == [(2, 2, 8, 8)]
