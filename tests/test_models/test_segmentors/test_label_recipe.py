import pytest

from csrm_plugin.config.load import load_config
from csrm_plugin.models.segmentors import CSRM, RML, CAMClassifier
from csrm_plugin.models.segmentors.label_recipe import LabelRecipe, recipe_of_config
from csrm_plugin.utils import UserError


@pytest.mark.parametrize(
    ('section', 'message'),
    [
        (dict(source='both'), r"`model\.test_cfg\.pseudo_label\.source`.*'both'"),
        (dict(source='cam', threshold=2), r'`model\.test_cfg\.pseudo_label\.threshold`.*cam.*2'),
        (dict(source='propagated'), r'`model\.test_cfg\.pseudo_label\.threshold`.*propagated.*None'),
        (dict(source='cam', treshold=0.5), r'`model\.test_cfg\.pseudo_label`.*`treshold`'),
    ],
)
def test_wrong_settings_are_named_when_the_model_is_built(build, section, message):
    with pytest.raises(UserError, match=message):
        build('CSRM', test_cfg=dict(pseudo_label=section))


def test_what_is_not_said_is_the_methods_own():
    assert CSRM.label_recipe_of(None) == LabelRecipe('seg')
    assert CAMClassifier.label_recipe_of(dict(cam_threshold=0.3)) == LabelRecipe('cam', 0.3)
    assert RML.label_recipe_of(None) == LabelRecipe('propagated', 0.35)
    assert RML.label_recipe_of(dict(threshold=0.6)) == LabelRecipe('propagated', 0.6)
    assert RML.label_recipe_of(dict(pseudo_label=dict(threshold=0.2), threshold=0.6)) == LabelRecipe('propagated', 0.2)
    # A threshold of propagated CAMs says nothing about plain ones.
    with pytest.raises(UserError, match='threshold'):
        RML.label_recipe_of(dict(pseudo_label=dict(source='cam')))
    assert LabelRecipe('seg', 0.4).threshold is None


def test_the_recipe_comes_with_each_prediction_and_from_the_config(build, make_batch, root):
    model = build('CSRM', test_cfg=dict(pseudo_label=dict(source='cam', threshold=0.4))).eval()
    assert all(sample.pseudo_label == dict(source='cam', threshold=0.4) for sample in model.test_step(make_batch()))
    for name, recipe in (('cam_msrc', ('cam', 0.5)), ('csrm_msrc', ('seg', None)), ('rml_voc', ('propagated', 0.35))):
        cfg = load_config(str(root / 'mmcfg' / f'{name}.py'))
        assert recipe_of_config(cfg.model) == LabelRecipe(*recipe)
    options = {'model.test_cfg.pseudo_label.threshold': 0.25}
    assert recipe_of_config(load_config(str(root / 'mmcfg' / 'cam_msrc.py'), options).model).threshold == 0.25
    cfg = load_config(str(root / 'mmcfg' / 'deeplabv3plus_mobilenetv2_msrc_pseudo.py'))
    assert recipe_of_config(cfg.model) == LabelRecipe('seg')
