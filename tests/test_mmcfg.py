"""Every config in `mmcfg/` is loaded, keeps the promises that tools and sweeps rely on, and its model is built."""

import json
import pathlib
import re

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead
from mmseg.registry import DATASETS, MODELS
from PIL import Image

from csrm_plugin.engine.testing import prepare_testing, run_test
from csrm_plugin.engine.training import prepare_training
from csrm_plugin.models.decode_heads import DeepLabV2Head
from csrm_plugin.models.segmentors import WSSSSegmentor

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / 'mmcfg').rglob('*.py') if '_base_' not in path.parts)
NAMES = [str(path.relative_to(ROOT / 'mmcfg')) for path in CONFIGS]
#: The verification step: fully supervised networks on a folder of label maps. All others learn from image-level labels.
VERIFICATION = [name for name in NAMES if name.startswith('deeplab')]

#: Pictures of the demo, few and small: width and height in pixels.
SMALL_DATA = dict(image_size=(64, 48), num_train=8, num_val=2)


@pytest.fixture(autouse=True)
def _scope(monkeypatch):
    init_default_scope('mmseg')
    monkeypatch.delenv('PSEUDO_LABELS', raising=False)


def load(name):
    config = Config.fromfile(ROOT / 'mmcfg' / name)
    if config.get('model', {}).get('backbone', {}).get('type') == 'TimmBackbone':
        pytest.importorskip('timm', reason='its backbone is of timm: `pip install timm`')
    return config


def batch_norms(model):
    """Layers of batch normalisation; one that knows its own process only fails the test."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
    return norms


@pytest.fixture(params=NAMES)
def config(request):
    return load(request.param)


@pytest.fixture(params=[name for name in NAMES if name not in VERIFICATION])
def weak_config(request):
    return load(request.param)


@pytest.fixture(params=VERIFICATION)
def verification_config(request):
    return load(request.param)


@pytest.mark.parametrize('path', sorted((ROOT / 'mmcfg').rglob('*.py')), ids=lambda path: path.stem)
def test_config_says_first_what_it_is(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith('# ') and len(first) > 20


def test_all_methods_and_data_sets_are_there():
    methods, data_sets = ('cam', 'puzzle', 'csrm', 'rml'), ('voc', 'coco', 'msrc', 'demo')
    wanted = {f'{method}_{data}.py' for method in methods for data in data_sets}
    wanted |= {f'{method}_voc_animals.py' for method in ('cam', 'csrm', 'rml')}
    wanted |= {'csrm_voc_released.py', 'csrm_voc_multiscale.py', 'csrm_voc_animals_released.py'}
    wanted |= {'deeplabv3plus_mobilenetv2_voc_animals_pseudo.py'}
    wanted |= {f'deeplabv2_{which}_pseudo.py' for which in ('r101_voc', 'r101_coco', 'mobilenetv2_msrc', 'r18_demo')}
    wanted |= {
        f'deeplabv3plus_{which}_pseudo.py' for which in ('rs269_voc', 'rs269_coco', 'mobilenetv2_msrc', 'r18_demo')
    }
    assert wanted <= set(NAMES)
    for method in ('csrm', 'rml'):
        for data in ('msrc', 'voc', 'voc_animals'):
            # One row less than the table has: the last is the method itself.
            rows = [name for name in NAMES if re.match(rf'ablations/{method}_{data}_\d', name)]
            assert len(rows) == (0 if (method, data) == ('rml', 'voc_animals') else 3)


@pytest.mark.parametrize(
    ('data', 'variable', 'size', 'keep_ratio'),
    [
        ('voc12_wsss', 'VOC_ROOT', (2048, 512), True),
        ('coco14_wsss', 'COCO_ROOT', (2048, 640), True),
        ('msrc', 'MSRC_ROOT', (240, 160), False),
        ('voc_animals', 'VOC_ANIMALS_ROOT', (224, 224), False),
        ('demo', 'DEMO_ROOT', (128, 96), False),
    ],
)
def test_file_of_a_data_set_stands_alone(data, variable, size, keep_ratio, monkeypatch):
    """What the data sets share comes from one file; each has the whole of it, with its own folder and sizes."""
    monkeypatch.setenv(variable, 'somewhere/else')
    config = load(f'_base_/datasets/{data}.py')
    assert config.test_dataloader == config.val_dataloader
    for loader, split, steps in (
        (config.train_dataloader, 'train', ['Resize', 'RandomFlip', 'PackWSSSInputs']),
        (config.val_dataloader, 'val', ['Resize', 'LoadOptionalAnnotations', 'PackWSSSInputs']),
    ):
        assert loader.dataset.data_root == 'somewhere/else'
        assert loader.dataset.ann_file.startswith(f'ImageSets/Segmentation/{split}')
        assert loader.dataset.data_prefix == dict(img_path='JPEGImages', seg_map_path='SegmentationClass')
        assert [step.type for step in loader.dataset.pipeline] == ['LoadImageFromFile', *steps]
    resize = config.val_dataloader.dataset.pipeline[1]
    assert (resize.scale, resize.keep_ratio) == (size, keep_ratio)
    resizes, flips, masks, pack = config.tta_pipeline[1].transforms
    assert resizes == [
        dict(type='Resize', scale=(int(size[0] * factor), int(size[1] * factor)), keep_ratio=keep_ratio)
        for factor in (0.5, 1.0, 1.5, 2.0)
    ]
    assert [flip.prob for flip in flips] == [0.0, 1.0]
    assert (masks[0].type, pack[0].type) == ('LoadOptionalAnnotations', 'PackWSSSInputs')
    assert config.tta_context == dict(scales=(0.5, 1.0, 1.5, 2.0), flip=True)


def test_promised_keys_exist(config):
    assert 'csrm_plugin' in config.custom_imports.imports
    assert config.custom_imports.allow_failed_imports is False
    assert config.randomness == dict(seed=0, deterministic=False, diff_rank_seed=True)
    assert config.load_from is None and config.resume is False
    assert config.default_hooks.alarm == dict(type='CollapseAlarmHook'), 'no kind of training learns nothing unnoticed'
    assert not any(hook.type == 'CollapseAlarmHook' for hook in config.get('custom_hooks', ()))
    if config.train_cfg.type == 'IterBasedTrainLoop':
        assert config.train_cfg.max_iters > 0
        assert config.train_dataloader.sampler.type == 'InfiniteSampler'
        assert not config.log_processor.by_epoch and not config.default_hooks.checkpoint.by_epoch
        assert not any(scheduler.by_epoch for scheduler in config.param_scheduler)
        assert 'max_batch_per_process' not in config  # accumulated iterations would be no updates
    else:
        assert config.train_cfg.max_epochs > 0
        assert config.train_dataloader.sampler.type == 'DefaultSampler'  # an epoch ends
        assert config.log_processor.by_epoch and config.default_hooks.checkpoint.by_epoch
    assert config.train_dataloader.drop_last  # ASPP's pooled branch cannot normalise a single picture
    assert config.val_evaluator.type == config.test_evaluator.type == 'WSSSMetric'
    if 'global_batch_size' in config:
        assert config.auto_scale_lr.base_batch_size == config.global_batch_size


def test_training_pipeline_names_no_step_that_reads_masks(weak_config):
    dataset = weak_config.train_dataloader.dataset
    steps = [step.type for step in dataset.pipeline]
    assert not any('Annotation' in step or 'LoadPseudoLabels' in step for step in steps)
    assert 'pseudo_label_dir' not in dataset and 'with_masks' not in dataset
    assert steps[-1] == 'PackWSSSInputs'


def test_model_is_built_and_counts_classes_like_the_data_set(weak_config):
    # The host computes with tensors while it builds a MixVisionTransformer: that one needs storage.
    transformer = 'VisionTransformer' in weak_config.model.backbone.type
    with torch.device('cpu' if transformer else 'meta'):
        model = MODELS.build(weak_config.model)
    classes = DATASETS.get(weak_config.train_dataloader.dataset.type).METAINFO['classes']
    network = getattr(model, 'student', model)
    assert batch_norms(model)
    assert network.cam_head.num_classes == len(classes) - 1
    if hasattr(model, 'student'):
        assert network.decode_head.num_classes == len(classes)
        assert model.bank.features.shape[0] == len(classes)


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('csrm')])
def test_settings_that_sweeps_vary_are_in_the_config(name):
    config = load(name)
    assert 0 <= config.model.pseudo_label.bg_threshold <= config.model.pseudo_label.fg_threshold <= 1
    for term in ('loss_s2c', 'loss_u', 'loss_m'):
        assert 0 < config.model[term].loss_weight <= 1
    assert config.model.reliability.alpha == 0.2
    assert config.optim_wrapper.optimizer.lr > 0


def test_csrm_voc_is_the_paper():
    config = load('csrm_voc.py')
    assert config.global_batch_size == 32 and config.train_cfg.max_epochs == 15
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=0.007, momentum=0.9, weight_decay=1e-4)
    assert config.optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult == 10
    assert (config.model.pseudo_label.fg_threshold, config.model.pseudo_label.bg_threshold) == (0.35, 0.05)
    with torch.device('meta'):
        options = MODELS.build(config.model).loss_m.options
    assert (options['num_queries'], options['num_negatives'], options['temperature']) == (50, 256, 0.5)
    assert (options['low_rank'], options['high_rank'], options['query_confidence']) == (3, 6, 0.3)


def test_released_config_changes_what_the_released_code_changes():
    config = load('csrm_voc_released.py')
    assert config.model.pseudo_label.fg_threshold == 0.30 and config.model.loss_c.label_smoothing == 0.1
    assert config.model.loss_m.num_queries == 256 and config.model.loss_m.num_negatives == 50
    assert config.model.backbone.norm_eval and not config.model.backbone.norm_cfg.requires_grad
    assert config.model.decode_head.norm_cfg == dict(type='GN', num_groups=4)
    assert config.optim_wrapper.clip_grad.max_norm == 1.0 and config.optim_wrapper.optimizer.nesterov
    # sigma stays at 0.5, the weight of the term rises instead
    attributes = [hook.get('attribute') for hook in config.custom_hooks]
    assert 'sigma_s2c' not in attributes and 'loss_s2c.loss_weight' in attributes


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('rml')])
def test_rml_settings_that_sweeps_vary_are_in_the_config(name):
    config = load(name)
    assert config.model.type == 'RML' and 'load_from' in config
    assert 0 <= config.model.pseudo_label.bg_threshold <= config.model.pseudo_label.fg_threshold <= 1
    for level in ('loss_instance', 'loss_feature', 'loss_pixel'):
        assert 0 < config.model[level].loss_weight <= 1
    assert 'WarmupHook' in [hook.type for hook in config.custom_hooks]
    assert config.optim_wrapper.constructor == 'TrainableOptimWrapperConstructor'
    assert config.model.test_cfg.pseudo_label.source == 'propagated'


@pytest.mark.parametrize('data', ['voc', 'msrc'])
def test_rml_ablation_adds_a_level_to_each_row(data):
    names = [f'ablations/rml_{data}_{row}.py' for row in ('0_classifier', '1_instance', '2_feature')]
    levels = ['loss_instance', 'loss_feature', 'loss_pixel']
    whole = load(f'rml_{data}.py')
    for count, name in enumerate([*names, f'rml_{data}.py']):
        model = load(name).model
        assert [model[level] is not None for level in levels] == [index < count for index in range(3)]
        assert all(model[level] == whole.model[level] for level in levels[:count])


@pytest.mark.parametrize(('data', 'epochs', 'side'), [('voc', 7, 500), ('coco', 4, 640)])
def test_rml_has_the_known_settings(data, epochs, side):
    config = load(f'rml_{data}.py')
    assert config.global_batch_size == config.train_dataloader.batch_size == 4
    assert config.train_cfg.max_epochs == epochs
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 6e-5, 0.01)
    keys = config.optim_wrapper.paramwise_cfg.custom_keys
    assert {name: key.lr_mult for name, key in keys.items()} == dict(cam_head=10, affinity_head=10, context_head=10)
    linear, poly = config.param_scheduler
    assert (linear.type, linear.end, linear.by_epoch) == ('LinearLR', 1500, False)
    assert (poly.type, poly.power) == ('PolyLR', 1.0) and 'end' not in poly  # follows an overridden max_epochs
    assert [(hook.type, hook.iters) for hook in config.custom_hooks] == [('WarmupHook', 2000)]
    model = MODELS.build(config.model)
    assert tuple(model.backbone.strides) == (4, 2, 2, 1) and model.cam_head.pooling == 'max'
    assert model.affinity_head.num_maps == 2 * 8 and model.context_head.channels == 15
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert not any('norm' in name for name in trained if name.startswith('backbone'))
    assert [step.get('scale') for step in config.test_dataloader.dataset.pipeline if step.type == 'Resize'] == [
        (side, side)
    ]
    assert len(config.tta_pipeline[1].transforms[0]) == len(config.tta_context.scales)


@pytest.mark.parametrize('size', [(90, 120), (700, 560)])
def test_rml_crops_carry_their_padding(size, tmp_path):
    config = load('rml_voc.py')
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / 'picture.png')
    steps = list(config.train_dataloader.dataset.pipeline)
    resize = next(step for step in steps if step.type == 'RandomResize')
    assert resize.scale == (500, 500) and resize.ratio_range == (0.5, 2.0) and resize.keep_ratio
    resize.ratio_range = (0.5, 0.5) if size[0] < 320 else (2.0, 2.0)
    labels = np.zeros(20, dtype=np.float32)
    labels[[3, 7]] = 1
    info = dict(img_path=str(tmp_path / 'picture.png'), image_labels=labels, seg_fields=[], reduce_zero_label=False)
    packed = Compose(steps)(info)
    height, width = packed['inputs'].shape[1:]
    assert (height, width) == ((188, 250) if size[0] < 320 else (320, 320))  # a box of 250, or of 1000 and cut
    preprocessor = MODELS.build(config.model.data_preprocessor)
    batch = preprocessor({key: [value] for key, value in packed.items()}, training=True)
    assert batch['inputs'].shape == (1, 3, 320, 320)
    (sample,) = batch['data_samples']
    assert sample.gt_image_labels.multi_hot.tolist() == labels.tolist()
    assert tuple(sample.padding_size) == (0, 320 - width, 0, 320 - height)
    valid = WSSSSegmentor.valid_pixels(batch['inputs'], batch['data_samples'])[0]
    assert valid[:height, :width].all() and valid.sum() == height * width
    assert not batch['inputs'][0, :, ~valid].any()  # the mean colour


def test_verification_trains_on_label_maps_and_is_scored_with_masks(verification_config):
    train, val = verification_config.train_dataloader.dataset, verification_config.val_dataloader.dataset
    steps = [step.type for step in train.pipeline]
    # Labels come before whatever changes the size, and no step reads a mask.
    assert steps == [
        'LoadImageFromFile',
        'LoadPseudoLabels',
        'RandomResize',
        'RandomCrop',
        'RandomFlip',
        'PackWSSSInputs',
    ]
    assert train.pseudo_label_dir == 'work_dirs/pseudo_labels'
    assert 'pseudo_label_dir' not in val and verification_config.test_dataloader.dataset == val
    assert 'LoadOptionalAnnotations' in [step.type for step in val.pipeline]
    assert verification_config.val_evaluator == dict(type='WSSSMetric')
    assert (
        verification_config.tta_model.type == 'WSSSTTAModel'
        and len(verification_config.tta_pipeline[1].transforms) == 4
    )


def test_verification_pads_to_the_crop_with_255(verification_config):
    preprocessor = verification_config.model.data_preprocessor
    (crop,) = [step for step in verification_config.train_dataloader.dataset.pipeline if step.type == 'RandomCrop']
    assert tuple(preprocessor.size) == tuple(crop.crop_size) and preprocessor.seg_pad_val == 255
    assert preprocessor.get('size_divisor') is None
    MODELS.build(preprocessor)


def test_verification_network_counts_classes_like_the_data_set(verification_config):
    with torch.device('meta'):
        model = MODELS.build(verification_config.model)
    classes = DATASETS.get(verification_config.train_dataloader.dataset.type).METAINFO['classes']
    assert isinstance(model, EncoderDecoder) and batch_norms(model)
    assert model.decode_head.num_classes == model.decode_head.out_channels == len(classes)
    assert model.decode_head.ignore_index == 255 and model.decode_head.loss_decode.avg_non_ignore
    assert isinstance(model.decode_head, (DeepLabV2Head, DepthwiseSeparableASPPHead))


def test_label_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv('PSEUDO_LABELS', 'labels/of/mine')
    for name in VERIFICATION:
        assert load(name).train_dataloader.dataset.pseudo_label_dir == 'labels/of/mine'


@pytest.mark.parametrize(
    ('data', 'crop', 'iterations', 'lr'), [('voc', 321, 10000, 2.5e-4), ('coco', 481, 20000, 2e-4)]
)
def test_deeplabv2_has_the_settings_of_its_paper(data, crop, iterations, lr):
    config = load(f'deeplabv2_r101_{data}_pseudo.py')
    assert config.train_cfg.max_iters == iterations and config.global_batch_size == 10
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=5e-4)
    assert config.optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult == 10
    assert [scheduler.power for scheduler in config.param_scheduler] == [0.9]
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    assert steps['RandomCrop'].crop_size == (crop, crop) and steps['RandomResize'].ratio_range == (0.5, 1.5)
    with torch.device('meta'):
        model = MODELS.build(config.model).train()
    assert model(torch.zeros(1, 3, crop, crop, device='meta'), mode='tensor').shape[2:] == (crop // 8 + 1,) * 2
    assert [conv.dilation[0] for conv in model.decode_head.conv_seg] == [6, 12, 18, 24]
    norms = batch_norms(model)
    assert len(norms) == 104
    assert not any(norm.training or norm.weight.requires_grad or norm.bias.requires_grad for norm in norms)


@pytest.mark.parametrize(('data', 'lr'), [('voc', 0.007), ('coco', 0.004)])
def test_deeplabv3plus_has_the_settings_of_the_paper(data, lr):
    config = load(f'deeplabv3plus_rs269_{data}_pseudo.py')
    assert config.train_cfg.max_epochs == 50
    assert config.global_batch_size == 32 and config.max_batch_per_process == 8
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4)
    assert config.optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult == 10
    assert [scheduler.power for scheduler in config.param_scheduler] == [0.9]
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    assert steps['RandomCrop'].crop_size == (512, 512) and steps['RandomResize'].ratio_range == (0.5, 2.0)
    assert config.model.backbone.depth == 269
    with torch.device('meta'):
        model = MODELS.build(config.model)
        features = model.extract_feat(torch.zeros(2, 3, 512, 512))
    assert [tuple(feature.shape[1:]) for feature in features] == [(256, 128, 128), (2048, 32, 32)]


def test_verification_demo_trains_and_is_scored_with_augmentation(tmp_path, monkeypatch):
    monkeypatch.setenv('DEMO_ROOT', str(tmp_path / 'data'))
    monkeypatch.setenv('PSEUDO_LABELS', str(tmp_path / 'data' / 'SegmentationClass'))
    options = {'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 4}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options |= {f'{loader}.num_workers': 0, f'{loader}.persistent_workers': False}
        options |= {f'{loader}.dataset.{key}': value for key, value in SMALL_DATA.items()}
    config = str(ROOT / 'mmcfg' / 'deeplabv2_r18_demo_pseudo.py')
    runner = Runner.from_cfg(prepare_training(config, options, work_dir=str(tmp_path / 'run')))
    runner.train()
    assert runner.iter == 2
    checkpoint, result = str(tmp_path / 'run' / 'epoch_1.pth'), tmp_path / 'report.json'
    run_test(prepare_testing(config, checkpoint, options, work_dir=str(tmp_path), tta=True), json_path=str(result))
    report = json.loads(result.read_text())
    assert 0 <= report['seg/mIoU'] <= 100 and 'cam/mIoU' not in report
    assert report['context']['scales'] == [0.5, 1.0, 1.5, 2.0] and report['context']['flip'] is True
