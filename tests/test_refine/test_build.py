import sys
from types import SimpleNamespace

import numpy as np
import pytest

from csrm_plugin.refine import DenseCRF, PixelAdaptiveRefinement, build_refinement, refinement_title
from csrm_plugin.utils import UserError


def build(refine, crf=None, par=None, stride=1):
    return build_refinement(SimpleNamespace(refine=refine, crf=crf, par=par, stride=stride))


def test_par_needs_no_other_package(monkeypatch):
    for name in ('pydensecrf', 'pydensecrf.densecrf'):
        monkeypatch.setitem(sys.modules, name, None)
    assert build('par', crf={}).iterations == 10
    chosen = build('par', crf=None, par=dict(iterations=3))
    assert isinstance(chosen, PixelAdaptiveRefinement) and chosen.iterations == 3
    assert refinement_title(chosen) == 'PAR'


def test_crf():
    pytest.importorskip('pydensecrf')
    chosen = build('crf', crf=dict(iterations=3), par=dict(iterations=4))
    assert isinstance(chosen, DenseCRF) and chosen.iterations == 3
    assert refinement_title(chosen) == 'dCRF'


def test_kernels_of_crf_are_in_pixels_of_the_input():
    """At half the resolution they have half the size, and so see what they saw at full resolution."""
    pytest.importorskip('pydensecrf')
    settings = dict(gaussian_sxy=3, bilateral_sxy=40, bilateral_srgb=6, workers=2)
    assert build('crf', crf=settings).kernels == DenseCRF(**settings).kernels
    halved = DenseCRF(gaussian_sxy=1.5, bilateral_sxy=20, bilateral_srgb=6)
    chosen = build('crf', crf=settings, stride=2)
    assert chosen.kernels == halved.kernels and chosen.workers == 2
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (1, 24, 32, 3), dtype=np.uint8), [rng.integers(0, 2, (2, 24, 32))]
    with chosen:
        np.testing.assert_array_equal(
            chosen.refine_labels(images, labels, [2])[0], halved.refine_labels(images, labels, [2])[0]
        )


@pytest.mark.parametrize(('refine', 'crf'), [('crf', None), ('none', {}), (None, {})])
def test_none(refine, crf):
    assert build(refine, crf) is None
    assert refinement_title(None) == 'not refined'


def test_wrong_settings_are_named():
    with pytest.raises(UserError, match=r"`model\.pseudo_label\.refine` must be one of crf, par, none, but is 'PAR'"):
        build('PAR')
    with pytest.raises(UserError, match='`dilations`'):
        build('par', par=dict(dilations=[]))
    with pytest.raises(TypeError, match='iteration'):
        build('par', par=dict(iteration=3))
