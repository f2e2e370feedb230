"""Equality with numbers that the authors' released code gave (see the README beside them)."""

import numpy as np
import pytest
import torch

from csrm_plugin import functional as F
from csrm_plugin.refine import DenseCRF


@pytest.fixture(scope='module')
def golden(request):
    path = request.config.rootpath.parent / 'shared' / 'golden' / 'golden_a.npz'
    if not path.is_file():
        pytest.skip('needs shared/golden/golden_a.npz beside the project')
    arrays = np.load(path)
    return {name: arrays[name] for name in arrays}


def test_pseudo_labels_are_exactly_equal(golden):
    pytest.importorskip('pydensecrf')
    labels = F.cam_pseudo_labels(
        golden['pl_images'],
        golden['pl_cams'],
        golden['pl_labels'],
        float(golden['pl_fg']),
        float(golden['pl_bg']),
        DenseCRF(),
    )
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(labels.numpy(), golden['pl_out'])
    assert {0, 255} < set(np.unique(labels).tolist())


def test_activation_consistency(golden):
    cam, bg, teacher = (torch.from_numpy(golden[f's2c_{name}']) for name in ('cam', 'bg', 'teacher'))
    loss = F.activation_consistency_loss(cam, bg, teacher, float(golden['s2c_sigma']), align_corners=True)
    assert loss.item() == pytest.approx(golden['s2c_out'].item(), rel=1e-5)


def test_segmentation_consistency(golden):
    student, teacher = torch.from_numpy(golden['u_student']), torch.from_numpy(golden['u_teacher'])
    alpha = float(golden['u_alpha'])
    assert F.reliable_pixels(F.entropy(teacher), alpha).sum() == int(golden['u_kept'])
    loss = F.segmentation_consistency_loss(student, teacher, alpha)
    assert loss.item() == pytest.approx(golden['u_out'].item(), rel=1e-5)


def test_negative_candidates_are_exactly_equal(golden):
    probs, high, labels = (torch.from_numpy(golden[f'neg_{name}']) for name in ('probs', 'high', 'labels'))
    assert F.negative_candidates(probs, high, labels).equal(torch.from_numpy(golden['neg_out']))


def test_info_nce(golden):
    queries, positives, negatives = (
        torch.from_numpy(golden[f'nce_{name}']) for name in ('queries', 'positives', 'negatives')
    )
    assert F.info_nce(queries, positives, negatives).item() == pytest.approx(golden['nce_out'].item(), rel=1e-5)


def test_pixel_adaptive_refinement(golden):
    refined = F.pixel_adaptive_refinement(golden['par_image'], golden['par_mask'], (1, 2, 4, 8, 12, 24), 10)
    np.testing.assert_allclose(refined, golden['par_out'], rtol=1e-5)
    refined = F.pixel_adaptive_refinement(*(torch.from_numpy(golden[f'par_{name}']) for name in ('image', 'mask')))
    np.testing.assert_allclose(refined.numpy(), golden['par_out'], rtol=1e-5)


def test_affinity_loss(golden):
    affinity, labels = torch.from_numpy(golden['aff_pred']), torch.from_numpy(golden['aff_label'])
    assert F.affinity_loss(affinity, labels).item() == pytest.approx(golden['aff_out'].item(), rel=1e-5)
