import sys
from types import SimpleNamespace

import pytest

from csrm_plugin.refine import DenseCRF, PixelAdaptiveRefinement, build_refinement, refinement_title
from csrm_plugin.utils import UserError


def build(refine, crf=None, par=None):
    return build_refinement(SimpleNamespace(refine=refine, crf=crf, par=par))


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
