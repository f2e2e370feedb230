import pytest

from csrm_plugin.inference.audit_labels import settings as module
from csrm_plugin.inference.audit_labels.settings import Setting, Views, make_plan, refinement_of
from csrm_plugin.models.segmentors import PseudoLabelSettings
from csrm_plugin.utils import UserError


def own(**given):
    return PseudoLabelSettings(**dict(dict(fg_threshold=0.6, bg_threshold=0.4, refine='par', stride=2), **given))


def test_pairs_and_refinements():
    plan = make_plan(own(), fg=[0.5, 0.3, 0.5], bg=[0.4, 0.1])
    views = Views((1.0,), False)
    pairs = [(0.3, 0.1), (0.5, 0.1), (0.5, 0.4)]
    expected = [Setting(views, 'none', *pair) for pair in pairs] + [Setting(views, 'par', *pair) for pair in pairs]
    assert list(plan.settings) == [*expected, plan.config] and plan.config == Setting(views, 'par', 0.6, 0.4)
    assert plan.stride == 2 and plan.exact and plan.all_views == (views,)
    assert plan.refinements['none'] is None and plan.refinements['par'].title == 'PAR'


def test_a_setting_that_is_in_the_grid_is_one_row():
    plan = make_plan(own(), fg=[0.6], bg=[0.4])
    assert len(plan.settings) == 2 and plan.config in plan.settings


def test_other_views_are_those_asked_for_and_the_configs():
    plan = make_plan(own(), scales=[0.5, 1], flip=True, fg=[0.6], bg=[0.4])
    assert plan.views == Views((0.5, 1), True) and plan.all_views == (plan.views, Views((1.0,), False))
    assert plan.settings[-1] == plan.config, 'that of the config comes last'
    kept = make_plan(own(scales=(0.5, 1.0), flip=True), fg=[0.6], bg=[0.4])
    assert kept.views == Views((0.5, 1.0), True) and make_plan(own(flip=True), flip=False).views.flip is False


@pytest.mark.parametrize(
    'crf, given, refines, exact',
    [
        (None, dict(), {'none', 'par'}, True),
        (False, dict(), {'none'}, False),
        (None, dict(refine='none'), {'none', 'crf'}, True),
        (None, dict(refine='crf', crf=None), {'none', 'crf'}, True),
        (False, dict(refine='none'), {'none'}, True),
        (True, dict(), {'crf', 'par'}, True),  # par: the row of the config
    ],
)
def test_which_refinements(monkeypatch, crf, given, refines, exact):
    monkeypatch.setattr(module, 'build', lambda base, refine: refine)
    plan = make_plan(own(**given), crf=crf)
    assert {setting.refine for setting in plan.settings} == refines and plan.exact == exact
    assert set(plan.refinements) == refines


def test_a_model_that_learns_from_none_has_no_row_of_its_own(monkeypatch):
    monkeypatch.setattr(module, 'build', lambda base, refine: refine)
    plan = make_plan(None, fg=[0.6], bg=[0.4])
    assert plan.config is None and [setting.refine for setting in plan.settings] == ['none', 'crf']
    assert plan.views == Views((1.0,), False) and plan.stride == 1


def test_refinement_of():
    assert refinement_of(own()) == 'par' and refinement_of(own(refine=None)) == 'none'
    assert refinement_of(own(refine='crf')) == 'crf' and refinement_of(own(refine='crf', crf=None)) == 'none'


def test_dcrf_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'pip install pydensecrf2`, or audit without by --no-crf'):
        make_plan(None)
    assert make_plan(own(refine='crf'), crf=False).refinements == {'none': None}


@pytest.mark.parametrize('name, values', [('fg', [1.2]), ('bg', [-0.1]), ('fg', [])])
def test_thresholds_out_of_range(name, values):
    with pytest.raises(UserError, match=f'--{name} must be thresholds from 0 to 1'):
        make_plan(own(), **{name: values})
