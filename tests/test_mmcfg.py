"""Every config in `mmcfg/` is loaded, keeps the promises that tools and sweeps rely on, and its model is built."""

import pathlib

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

import csrm_plugin  # noqa: F401  (registers)

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / 'mmcfg').rglob('*.py') if '_base_' not in path.parts)
NAMES = [str(path.relative_to(ROOT / 'mmcfg')) for path in CONFIGS]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture(params=CONFIGS, ids=NAMES)
def config(request):
    return Config.fromfile(request.param)


def test_all_methods_and_data_sets_are_there():
    wanted = {f'{method}_{data}.py' for method in ('cam', 'puzzle', 'csrm') for data in ('voc', 'coco', 'msrc', 'demo')}
    wanted |= {'csrm_voc_released.py'}
    assert wanted <= set(NAMES)
    assert sum(name.startswith('ablations/csrm_msrc') for name in NAMES) == 4


def test_promised_keys_exist(config):
    assert 'csrm_plugin' in config.custom_imports.imports
    assert config.custom_imports.allow_failed_imports is False
    assert {'seed', 'deterministic'} <= set(config.randomness)
    assert config.load_from is None and config.resume is False
    assert config.train_cfg.max_epochs > 0
    assert config.train_dataloader.sampler.type == 'DefaultSampler'  # an epoch ends
    assert config.train_dataloader.drop_last  # ASPP's pooled branch cannot normalise a single picture
    assert config.val_evaluator.type == config.test_evaluator.type == 'WSSSMetric'
    if 'global_batch_size' in config:
        assert config.auto_scale_lr.base_batch_size == config.global_batch_size


def test_training_pipeline_names_no_step_that_reads_masks(config):
    steps = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert not any('Annotation' in step for step in steps)
    assert steps[-1] == 'PackWSSSInputs'


def test_model_is_built_and_counts_classes_like_the_data_set(config):
    with torch.device('meta'):
        model = MODELS.build(config.model)
    classes = DATASETS.get(config.train_dataloader.dataset.type).METAINFO['classes']
    network = getattr(model, 'student', model)
    assert network.cam_head.num_classes == len(classes) - 1
    if hasattr(model, 'student'):
        assert network.decode_head.num_classes == len(classes)
        assert model.bank.features.shape[0] == len(classes)


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('csrm')])
def test_settings_that_sweeps_vary_are_in_the_config(name):
    config = Config.fromfile(ROOT / 'mmcfg' / name)
    assert 0 <= config.model.pseudo_label.bg_threshold <= config.model.pseudo_label.fg_threshold <= 1
    for term in ('loss_s2c', 'loss_u', 'loss_m'):
        assert 0 < config.model[term].loss_weight <= 1
    assert config.model.reliability.alpha == 0.2
    assert config.optim_wrapper.optimizer.lr > 0


def test_csrm_voc_is_the_paper():
    config = Config.fromfile(ROOT / 'mmcfg' / 'csrm_voc.py')
    assert config.global_batch_size == 32 and config.train_cfg.max_epochs == 15
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=0.007, momentum=0.9, weight_decay=1e-4)
    assert config.optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult == 10
    assert (config.model.pseudo_label.fg_threshold, config.model.pseudo_label.bg_threshold) == (0.35, 0.05)
    with torch.device('meta'):
        options = MODELS.build(config.model).loss_m.options
    assert (options['num_queries'], options['num_negatives'], options['temperature']) == (50, 256, 0.5)
    assert (options['low_rank'], options['high_rank'], options['query_confidence']) == (3, 6, 0.3)


def test_released_config_changes_what_the_released_code_changes():
    config = Config.fromfile(ROOT / 'mmcfg' / 'csrm_voc_released.py')
    assert config.model.pseudo_label.fg_threshold == 0.30 and config.model.loss_c.label_smoothing == 0.1
    assert config.model.loss_m.num_queries == 256 and config.model.loss_m.num_negatives == 50
    assert config.model.backbone.norm_eval and not config.model.backbone.norm_cfg.requires_grad
    assert config.model.decode_head.norm_cfg == dict(type='GN', num_groups=4)
    assert config.optim_wrapper.clip_grad.max_norm == 1.0 and config.optim_wrapper.optimizer.nesterov
    # sigma stays at 0.5, the weight of the term rises instead
    attributes = [hook.get('attribute') for hook in config.custom_hooks]
    assert 'sigma_s2c' not in attributes and 'loss_s2c.loss_weight' in attributes
