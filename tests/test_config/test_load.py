import copy
import os

import pytest
from mmengine.config import Config
from mmseg.registry import MODELS

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.config.load import flatten, load_config, merge_options
from csrm_plugin.utils import MissingFileError, UserError


def refine(iterations=10):
    pass


def fuse(fg_threshold=0.35, bg_threshold=0.05, crf=None):
    pass


class SettingsBase:
    SETTINGS = dict(test_cfg=('network',))


@MODELS.register_module()
class SettingsModel(SettingsBase):
    """As our segmentors: dict parameters whose keys the class names, a free one, and one with a dict as default."""

    SETTINGS = {'pseudo_label': fuse, 'pseudo_label.crf': refine, 'bank': ('capacity',)}

    def __init__(self, pseudo_label=None, bank=None, reliability=dict(alpha=0.2), plain=None, test_cfg=None):  # noqa: B006
        pass


@MODELS.register_module()
class AnythingModel:
    def __init__(self, **kwargs):
        pass


@pytest.fixture(scope='module')
def base():
    return Config(
        dict(
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(type='SegDataPreProcessor', mean=[0, 0, 0]),
                backbone=dict(type='ResNeSt', depth=50, norm_cfg=dict(type='SyncBN')),
                decode_head=dict(
                    type='FCNHead',
                    norm_cfg=dict(type='BN'),
                    loss_decode=[dict(type='CrossEntropyLoss', loss_weight=1.0)],
                ),
                auxiliary_head=dict(type='SettingsModel', pseudo_label=dict(fg_threshold=0.35), plain=dict(known=1)),
                test_cfg=dict(mode='whole'),
            ),
            data_root='data/here',
            train_dataloader=dict(
                batch_size=4,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(
                    type='RepeatDataset',
                    times=2,
                    dataset=dict(
                        type='PascalVOCDataset',
                        ann_file='train.txt',
                        pipeline=[dict(type='LoadImageFromFile'), dict(type='RandomResize', scale=(8, 8))],
                    ),
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_cfg=None,
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', lr=0.1),
                clip_grad=None,
                paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
            ),
            param_scheduler=[dict(type='PolyLR', power=0.9)],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            custom_hooks=[dict(type='EMAHook')],
            val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
            visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='WandbVisBackend', init_kwargs=dict())]),
            env_cfg=dict(cudnn_benchmark=True),
            randomness=dict(seed=0, deterministic=False),
            load_from=None,
            resume=False,
        )
    )


def override(base, *options):
    """Apply options as the command line would; the overridden config."""
    cfg = copy.deepcopy(base)
    merge_options(cfg, {key: OptionsAction.parse_value(text) for key, text in (item.split('=', 1) for item in options)})
    return cfg


@pytest.mark.parametrize(
    'option',
    [
        'model.backbone.depth=101',
        'model.backbone.radix=4',  # ResNeSt's own
        'model.backbone.deep_stem=True',  # of ResNet, through two layers of **kwargs
        'model.backbone.norm_cfg.eps=0.1',  # of the class behind `type='SyncBN'`
        'model.decode_head.norm_cfg.requires_grad=False',  # taken out before that class is built
        'model.backbone.init_cfg={"type": "Pretrained", "checkpoint": "x", "prefix": "y"}',
        'model.decode_head.num_convs=1',
        'model.decode_head.dropout_ratio=0',  # of BaseDecodeHead
        'model.decode_head.loss_decode.0.class_weight=1,2',
        'model.decode_head.in_channels=3',
        'model.data_preprocessor.test_cfg.size_divisor=32',
        'model.data_preprocessor.bgr_to_rgb=True',
        'model.auxiliary_head.pseudo_label.bg_threshold=0.1',  # named by SETTINGS
        'model.auxiliary_head.pseudo_label.crf.iterations=5',
        'model.auxiliary_head.bank.capacity=8',
        'model.auxiliary_head.test_cfg.network=student',  # named by a base class
        'model.auxiliary_head.reliability.alpha=0.1',  # of the default
        'model.auxiliary_head.plain.known=2',
        'model.test_cfg.stride=(1,1)',
        'model.init_cfg=None',
        'train_dataloader.batch_size=2',
        'train_dataloader.drop_last=True',
        'train_dataloader.num_batch_per_epoch=1',
        'train_dataloader.sampler.round_up=False',
        'train_dataloader.dataset.dataset.ann_file=x',
        'train_dataloader.dataset.dataset.img_suffix=.png',
        'train_dataloader.dataset.dataset.indices=3',
        'train_dataloader.dataset.dataset.data_prefix.seg_map_path=m',
        'train_dataloader.dataset.dataset.metainfo.classes=(a,b)',
        'train_dataloader.dataset.dataset.pipeline.1.ratio_range=(1,2)',
        'train_dataloader.dataset.dataset.pipeline.1.keep_ratio=True',  # handed on to Resize
        'train_cfg.val_interval=2',
        'val_cfg.fp16=True',
        'optim_wrapper.optimizer.nesterov=True',
        'optim_wrapper.accumulative_counts=2',
        'optim_wrapper.constructor=X',
        'optim_wrapper.clip_grad.max_norm=1',  # None so far
        'optim_wrapper.paramwise_cfg.norm_decay_mult=0',
        'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.1',
        'param_scheduler.0.end=3',
        'param_scheduler.0.convert_to_iter_based=True',
        'default_hooks.checkpoint.max_keep_ckpts=1',
        'default_hooks.checkpoint.save_best=auto',
        'default_hooks.checkpoint.save_optimizer=False',  # handed on to Runner.save_checkpoint
        'default_hooks.logger={"type": "LoggerHook", "interval": 1}',
        'custom_hooks.0.momentum=0.1',  # handed on to the averaged model
        'val_evaluator.output_dir=x',
        'visualizer.alpha=0.3',
        'visualizer.vis_backends.0.init_kwargs.project=x',
        'env_cfg.dist_cfg.timeout=9',
        'env_cfg.mp_cfg.mp_start_method=spawn',
        'randomness.diff_rank_seed=True',
        'load_from=x.pth',
        'resume=True',
        'work_dir=w',
        'experiment_name=e',
        'auto_scale_lr.enable=True',
        'model_wrapper_cfg.static_graph=True',
        'find_unused_parameters=True',
        'custom_imports.imports=a,b',
        'launcher=pytorch',
        'data_root=other',  # present, though only a variable of the file
    ],
)
def test_known_keys_are_accepted_and_set(base, option):
    key, text = option.split('=', 1)
    cfg = override(base, option)
    node = cfg._cfg_dict
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    expected = OptionsAction.parse_value(text)
    if isinstance(expected, dict):
        assert all(node[name] == value for name, value in expected.items())
    else:
        assert node == expected


@pytest.mark.parametrize(
    ('key', 'nearest'),
    [
        ('model.backbone.dept', 'model.backbone.depth'),
        ('model.backbone.radixx', 'model.backbone.radix'),
        ('modle.backbone.depth', 'model.backbone.depth'),
        ('model.backbon.depth', 'model.backbone.depth'),
        ('backbone.depth', 'model.backbone.depth'),
        ('model.backbone.norm_cfg.epss', 'model.backbone.norm_cfg.eps'),
        ('model.decode_head.loss_decode.0.weight', 'model.decode_head.loss_decode.0.loss_weight'),
        ('model.decode_head.drop_out_ratio', 'model.decode_head.dropout_ratio'),
        ('model.auxiliary_head.pseudo_label.fg_treshold', 'model.auxiliary_head.pseudo_label.fg_threshold'),
        ('model.auxiliary_head.pseudo_label.crf.iteratons', 'model.auxiliary_head.pseudo_label.crf.iterations'),
        ('model.auxiliary_head.test_cfg.netwrk', 'model.auxiliary_head.test_cfg.network'),
        ('model.auxiliary_head.bank.capcity', 'model.auxiliary_head.bank.capacity'),
        ('model.auxiliary_head.reliability.alfa', 'model.auxiliary_head.reliability.alpha'),
        ('model.auxiliary_head.plain.knwon', 'model.auxiliary_head.plain.known'),
        ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
        ('train_dataloader.dataset.ann_file', 'train_dataloader.dataset.dataset.ann_file'),
        ('train_dataloader.dataset.dataset.anno_file', 'train_dataloader.dataset.dataset.ann_file'),
        (
            'train_dataloader.dataset.dataset.data_prefix.img_pth',
            'train_dataloader.dataset.dataset.data_prefix.img_path',
        ),
        ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('optim_wrapper.optimizer.momentun', 'optim_wrapper.optimizer.momentum'),
        ('optimizer.lr', 'optim_wrapper.optimizer.lr'),
        ('lr', 'optim_wrapper.optimizer.lr'),
        ('seed', 'randomness.seed'),
        ('randomness.sead', 'randomness.seed'),
        ('optim_wrapper.paramwise_cfg.norm_decay', 'optim_wrapper.paramwise_cfg.norm_decay_mult'),
        ('optim_wrapper.paramwise_cfg.custom_keys.head.lr_mul', 'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult'),
        ('optim_wrapper.clip_grad.max_nrom', 'optim_wrapper.clip_grad.max_norm'),
        ('param_scheduler.0.pwer', 'param_scheduler.0.power'),
        ('default_hooks.chekpoint.interval', 'default_hooks.checkpoint.interval'),
        ('default_hooks.checkpoint.max_keep_ckpt', 'default_hooks.checkpoint.max_keep_ckpts'),
        ('custom_hooks.0.momentun', 'custom_hooks.0.momentum'),
        ('val_evaluator.iou_metric', 'val_evaluator.iou_metrics'),
        ('env_cfg.cudnn_benchmrk', 'env_cfg.cudnn_benchmark'),
        ('load_form', 'load_from'),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(base, key, nearest):
    before = copy.deepcopy(base)
    with pytest.raises(UserError) as error:
        merge_options(base, {key: 1})
    assert str(error.value) == f'unknown setting `{key}` in --cfg-options; did you mean `{nearest}`?'
    assert base._cfg_dict == before._cfg_dict


def test_keys_inside_dict_values_are_checked(base):
    with pytest.raises(UserError, match=r'`model\.auxiliary_head\.pseudo_label\.fg_treshold`'):
        override(base, 'model.auxiliary_head.pseudo_label={"fg_treshold": 0.4}')
    cfg = override(base, 'model.auxiliary_head.pseudo_label={"bg_threshold": 0.1}')
    assert cfg.model.auxiliary_head.pseudo_label == dict(fg_threshold=0.35, bg_threshold=0.1)


def test_a_new_type_brings_its_parameters(base):
    with pytest.raises(UserError, match='betas'):
        override(base, 'optim_wrapper.optimizer.betas=(0.9,0.99)')
    cfg = override(base, 'optim_wrapper.optimizer.betas=(0.9,0.99)', 'optim_wrapper.optimizer.type=AdamW')
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.99)
    cfg = override(base, 'model.backbone.type=AnythingModel', 'model.backbone.whatever=1')
    assert cfg.model.backbone.whatever == 1
    cfg = override(base, 'model.backbone.type=not.imported.Backbone', 'model.backbone.whatever=1')
    assert cfg.model.backbone.whatever == 1


def test_delete_replaces_a_dict_and_forgets_its_keys(base):
    new = ['optim_wrapper.optimizer._delete_=True', 'optim_wrapper.optimizer.type=AdamW']
    assert override(base, *new).optim_wrapper.optimizer == dict(type='AdamW')
    with pytest.raises(UserError, match='momentum'):
        override(base, *new, 'optim_wrapper.optimizer.momentum=0.9')


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('param_scheduler.1.power=1', 'a list of 1, so `1` must be an index from 0 to 0'),
        ('param_scheduler.power=1', 'a list of 1, so `power` must be an index from 0 to 0'),
        ('model.backbone.0.depth=1', '`model.backbone` is no list'),
        ('model.backbone.depth.x=1', '`model.backbone.depth` is 50'),
    ],
)
def test_keys_of_the_wrong_shape_say_what_is_there(base, option, message):
    with pytest.raises(UserError, match=message):
        override(base, option)


def test_a_variable_of_the_file_is_set_with_a_warning(base, logged):
    override(base, 'data_root=other')
    assert '`data_root` in --cfg-options is a variable of the config file' in logged[-1]
    override(base, 'randomness.seed=3')
    assert len(logged) == 1


def test_flatten():
    assert flatten({'a.b': {'c': 1, 'd': {}}, 'e': [1]}) == {'a.b.c': 1, 'a.b.d': {}, 'e': [1]}


def test_missing_config_names_the_nearest(tmp_path, monkeypatch):
    (tmp_path / 'mmcfg').mkdir()
    (tmp_path / 'mmcfg' / 'csrm_here.py').touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r'`csrm_hare.py` does not exist; did you mean mmcfg.csrm_here\.py'):
        load_config('csrm_hare.py')


def write(tmp_path, text):
    path = tmp_path / 'c.py'
    path.write_text(text)
    return str(path)


def test_environment_variables(tmp_path, monkeypatch):
    path = write(tmp_path, "root = '{{$SURELY_UNSET_ROOT:data/x}}'\n")
    assert load_config(path).root == 'data/x'
    monkeypatch.setenv('SURELY_UNSET_ROOT', '/elsewhere')
    assert load_config(path).root == '/elsewhere'
    monkeypatch.setenv('SURELY_UNSET_ROOT', '')
    with pytest.raises(UserError, match='SURELY_UNSET_ROOT is empty; give it a value'):
        load_config(path)
    monkeypatch.delenv('SURELY_UNSET_ROOT')
    with pytest.raises(UserError, match='SURELY_UNSET_ROOT is not set, and the config has no default'):
        load_config(write(tmp_path, "root = '{{$SURELY_UNSET_ROOT:}}'\n"))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = b', "NameError: name 'b' is not defined"),
        ('a = (', 'SyntaxError'),
        ("_base_ = './nowhere.py'", 'nowhere.py'),
        ("custom_imports = dict(imports=['surely_not_there'], allow_failed_imports=False)", 'surely_not_there'),
    ],
)
def test_broken_configs_are_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as error:
        load_config(path)
    assert os.path.basename(path) in str(error.value)
