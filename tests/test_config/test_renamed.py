import pytest
from mmengine.config import Config
from mmseg.registry import MODELS

from csrm_plugin.config import renamed
from csrm_plugin.config.load import load_config, merge_options
from csrm_plugin.config.renamed import refuse_renamed
from csrm_plugin.utils import UserError

OF_THE_PROJECT = dict(renamed.RENAMED)
TABLE = {
    'model.label_stride': 'model.pseudo_label.stride',
    'val_evaluator.pseudo_label': 'model.test_cfg.pseudo_label',
    'custom_hooks.epochs': 'custom_hooks.length',
}


@MODELS.register_module()
class NewNames:
    def __init__(self, pseudo_label=None, test_cfg=None):
        pass


@MODELS.register_module()
class OwnNames:
    """As a user's own, to which the old name belongs."""

    def __init__(self, label_stride=1):
        pass


@pytest.fixture(autouse=True)
def _table(monkeypatch):
    monkeypatch.setattr(renamed, 'RENAMED', TABLE)


def write(tmp_path, text, name='c.py'):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            "model = dict(type='NewNames', label_stride=2)",
            '`model.label_stride` is now called `model.pseudo_label.stride`',
        ),
        ("model = dict(type='Unknown', label_stride=None)", '`model.label_stride` is now called'),
        (
            "val_evaluator = dict(type='IoUMetric', pseudo_label=dict(source='cam'))",
            '`val_evaluator.pseudo_label` is now called `model.test_cfg.pseudo_label`',
        ),
        (
            'val_evaluator = [dict(), dict(pseudo_label=None)]',
            '`val_evaluator.1.pseudo_label` is now called `model.test_cfg.pseudo_label`',
        ),
        ("custom_hooks = [dict(type='EMAHook'), dict(epochs=1)]", '`custom_hooks.1.epochs` is now called'),
    ],
)
def test_old_names_in_a_file_are_refused_with_the_new_one(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_config(path)
    assert str(error.value).startswith(f'config `{path}`: `') and message in str(error.value)


def test_old_names_in_a_base_are_refused(tmp_path):
    write(tmp_path, "model = dict(type='NewNames', label_stride=2)", 'base.py')
    with pytest.raises(UserError, match=r'`model\.label_stride` is now called'):
        load_config(write(tmp_path, "_base_ = './base.py'\n"))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model.label_stride': 2}, '`model.label_stride` is now called `model.pseudo_label.stride`'),
        ({'model': {'label_stride': 2}}, '`model.label_stride` is now called `model.pseudo_label.stride`'),
        (
            {'val_evaluator.pseudo_label.source': 'cam'},
            '`val_evaluator.pseudo_label.source` is now called `model.test_cfg.pseudo_label.source`',
        ),
        ({'val_evaluator.0.pseudo_label': None}, '`val_evaluator.0.pseudo_label` is now called'),
        ({'model.type': 'NewNames', 'model.label_stride': 2}, '`model.label_stride` is now called'),
    ],
)
def test_old_names_in_options_are_refused_with_the_new_one(options, message):
    cfg = Config(dict(model=dict(type='NewNames'), val_evaluator=dict(type='IoUMetric')))
    with pytest.raises(UserError) as error:
        merge_options(cfg, options)
    assert str(error.value).startswith('--cfg-options: `') and message in str(error.value)
    assert cfg.model == dict(type='NewNames')


def test_new_names_and_those_of_other_classes_are_taken(tmp_path):
    text = "model = dict(type='NewNames', pseudo_label=dict(stride=2))\ntrain_cfg = dict(label_stride=1)\n"
    assert load_config(write(tmp_path, text)).model.pseudo_label.stride == 2
    own = write(tmp_path, "model = dict(type='OwnNames', label_stride=2)")
    assert load_config(own).model.label_stride == 2
    assert load_config(own, {'model.label_stride': 3}).model.label_stride == 3
    cfg = Config(dict(model=dict(type='NewNames')))
    merge_options(cfg, {'model.type': 'OwnNames', 'model.label_stride': 3})
    assert cfg.model.label_stride == 3


def test_a_table_can_be_given():
    refuse_renamed({'model': {'label_stride': 2}}, 'here', {})
    with pytest.raises(UserError, match=r'here: `lr` is now called `optimizer\.lr`'):
        refuse_renamed({'lr': 1}, 'here', {'lr': 'optimizer.lr'})


def test_table_of_the_project_leads_from_names_that_are_gone_to_others():
    assert not set(OF_THE_PROJECT) & set(OF_THE_PROJECT.values())
    assert not any(part.isdigit() for key in OF_THE_PROJECT for part in key.split('.'))
