import importlib
import re
import socket
import sys

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import load_state_dict
from mmengine.structures import LabelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from csrm_plugin.config.load import load_config
from csrm_plugin.models.backbones import TimmBackbone
from csrm_plugin.models.backbones.timm_backbone import OLDEST_TIMM
from csrm_plugin.utils import UserError

timm = pytest.importorskip('timm', reason='a backbone of timm needs timm: `pip install timm`')

LITE, RESNET, VIT = 'tf_efficientnet_lite0', 'resnet10t', 'vit_tiny_patch16_224'


def build(name, **options):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(dict(type='TimmBackbone', name=name, **options)).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def offline(monkeypatch):
    """Whoever asks for the network fails."""

    def refuse(*args, **kwargs):
        raise AssertionError('something asked for the network')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)


class TestMaps:
    @pytest.mark.parametrize(
        ('name', 'stride', 'channels', 'strides'),
        [
            (LITE, None, (24, 320), (4, 32)),
            (LITE, 16, (24, 320), (4, 16)),
            (LITE, 8, (24, 320), (4, 8)),
            (RESNET, None, (64, 512), (4, 32)),
            (RESNET, 16, (64, 512), (4, 16)),
            (RESNET, 8, (64, 512), (4, 8)),
            # Dilated only in the form that gives nothing but maps.
            ('mobilenetv3_small_050', 16, (8, 288), (4, 16)),
        ],
    )
    def test_strides_and_channels_are_what_is_said(self, images, offline, name, stride, channels, strides):
        backbone = build(name, out_indices=(1, -1), output_stride=stride)
        maps = backbone(images)
        assert (backbone.out_channels, backbone.out_strides, backbone.out_indices) == (channels, strides, (1, 4))
        assert [tuple(x.shape) for x in maps] == [(2, c, 64 // s, -(-48 // s)) for c, s in zip(channels, strides)]
        assert isinstance(maps, tuple)

    def test_maps_are_those_of_timm(self, images):
        backbone = build(LITE, out_indices=(0, 1, 2, 3, 4), output_stride=16)
        plain = timm.create_model(LITE, features_only=True, output_stride=16).eval()
        missing, unknown = plain.load_state_dict(timm_names(backbone), strict=False)
        assert not missing and not unknown
        for ours, theirs in zip(backbone(images), plain(images)):
            torch.testing.assert_close(ours, theirs)

    def test_dilated_stage_computes_the_same_where_the_stride_had_looked(self, images):
        strided, dilated = build('resnet18'), build('resnet18', output_stride=8)
        dilated.load_state_dict(strided.state_dict())
        (coarse,), (fine,) = strided(images), dilated(images)
        assert coarse.shape[2:] == (2, 2) and fine.shape[2:] == (8, 6)
        torch.testing.assert_close(fine[:, :, ::4, ::4], coarse)

    @pytest.mark.parametrize(('size', 'grid'), [((32, 48), (2, 3)), ((40, 50), (3, 4)), ((224, 224), (14, 14))])
    def test_transformer_gives_the_grid_of_its_patches_at_any_size(self, size, grid):
        backbone = build(VIT, out_indices=(3, 11), output_stride=16)
        maps = backbone(torch.randn(1, 3, *size))
        assert [tuple(x.shape[1:]) for x in maps] == [(192, *grid)] * 2
        assert (backbone.out_channels, backbone.out_strides) == ((192, 192), (16, 16))

    def test_grid_is_the_tokens_row_by_row_after_the_norm_unless_told_otherwise(self):
        images, whole = torch.randn(1, 3, 224, 224), timm.create_model(VIT).eval()
        with_norm, without = build(VIT), build(VIT, final_norm=False)
        for backbone in (with_norm, without):
            backbone.network.load_state_dict(whole.state_dict(), strict=False)
        tokens = whole.forward_features(images)[0, 1:]  # the first one is that of the class
        expected = torch.stack([tokens[14 * row + column] for row in range(14) for column in range(14)], dim=1)
        torch.testing.assert_close(with_norm(images)[0][0], expected.reshape(192, 14, 14))
        normed = whole.norm(without(images)[0][0].permute(1, 2, 0)).permute(2, 0, 1)
        torch.testing.assert_close(normed, with_norm(images)[0][0])

    def test_nothing_is_left_that_no_map_needs(self, images):
        for options in (dict(name=LITE, out_indices=(1, 4)), dict(name=VIT, out_indices=(3,)), dict(name=RESNET)):
            backbone = build(**options).train()
            sum(x.square().mean() for x in backbone(images)).backward()
            assert [name for name, value in backbone.named_parameters() if value.grad is None] == []


class TestNorms:
    def train_a_step(self, backbone, images):
        optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
        backbone.train()(images)[-1].square().mean().backward()
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        optimizer.step()
        backbone(images)
        return {name for name, value in backbone.state_dict().items() if not value.equal(before[name])}

    @pytest.mark.parametrize('name', [LITE, RESNET])
    def test_statistics_stay_and_weights_are_trained(self, images, name):
        moved = self.train_a_step(build(name, norm_eval=True), images)
        assert not [name for name in moved if 'running' in name or 'batches' in name]
        weights = [name for name in moved if name.endswith(('bn1.weight', 'bn1.norm.weight'))]
        assert weights and any('conv' in name for name in moved)
        assert any('running' in name for name in self.train_a_step(build(name), images))

    def test_weights_can_be_frozen_too(self, images):
        backbone = build(LITE, norm_eval=True, norm_cfg=dict(requires_grad=False))
        moved = self.train_a_step(backbone, images)
        assert moved and not [name for name in moved if '.norm.' in name]

    def test_synchronised_and_back_it_computes_the_same(self, images):
        """Layers of timm that activate as well would come back without their activation."""
        plain, synchronised = build(LITE), build(LITE, norm_cfg=dict(type='SyncBN'))
        norms = [module for module in synchronised.modules() if isinstance(module, _BatchNorm)]
        assert len(norms) == 48 and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
        synchronised.load_state_dict(plain.state_dict())
        assert torch.equal(revert_sync_batchnorm(synchronised).eval()(images)[0], plain(images)[0])

    @pytest.mark.parametrize('norm_cfg', [dict(type='GN'), dict(type='BN', eps=1)])
    def test_other_norms_are_refused(self, norm_cfg):
        with pytest.raises(UserError, match=r'`model\.backbone\.norm_cfg`.*BN or SyncBN'):
            build(RESNET, norm_cfg=norm_cfg)


def timm_names(backbone):
    """What timm calls the tensors of a backbone."""
    return {k.removeprefix('network.').replace('.norm.', '.'): v for k, v in backbone.state_dict().items()}


def randomly(tensors):
    return {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in tensors.items()}


class TestWeights:
    #: What a file holds, from the tensors under timm's names and under those of the backbone -> other settings.
    FILES = {
        'timm': (lambda theirs, ours: theirs, {}),
        'whole network of timm': (lambda theirs, ours: {**theirs, 'classifier.weight': torch.ones(2)}, {}),
        'ours': (lambda theirs, ours: ours, {}),
        'classifier of ours': (
            lambda theirs, ours: {f'backbone.{k}': v for k, v in ours.items()},
            dict(prefix='backbone'),
        ),
        'timm in another': (
            lambda theirs, ours: {f'encoder.{k}': v for k, v in theirs.items()},
            dict(prefix='encoder'),
        ),
    }

    @pytest.mark.parametrize('file', FILES)
    @pytest.mark.parametrize('name', [LITE, 'resnest14d', VIT])
    def test_come_from_a_file_with_any_of_the_names(self, tmp_path, offline, name, file):
        ours = randomly(build(name).state_dict())
        theirs = {re.sub(r'^network\.|(?<=bn\d)\.norm(?=\.)', '', k): v for k, v in ours.items()}
        assert set(theirs) <= set(timm.create_model(name).state_dict())
        make, options = self.FILES[file]
        torch.save(make(theirs, ours), tmp_path / 'weights.pth')
        init_cfg = dict(type='OptionalPretrained', checkpoint=str(tmp_path / 'weights.pth'), **options)
        backbone = build(name, init_cfg=init_cfg)
        backbone.init_weights()
        assert [name for name, value in backbone.state_dict().items() if not value.equal(ours[name])] == []

    def test_come_from_safetensors(self, tmp_path, offline):
        safetensors = pytest.importorskip('safetensors.torch')
        backbone = build(RESNET)
        wanted = randomly(timm_names(backbone))
        safetensors.save_file(wanted, tmp_path / 'model.safetensors')
        backbone.init_cfg = dict(type='OptionalPretrained', checkpoint=str(tmp_path / 'model.safetensors'))
        backbone.init_weights()
        assert all(value.equal(wanted[name]) for name, value in timm_names(backbone).items())

    def test_come_by_any_loader_within_a_network(self):
        for load in (load_state_dict, lambda module, tensors, **kwargs: module.load_state_dict(tensors, **kwargs)):
            network = nn.Module()
            network.backbone = build(LITE)
            wanted = randomly(timm_names(network.backbone))
            load(network, {f'backbone.{name}': value for name, value in wanted.items()}, strict=True)
            assert all(value.equal(wanted[name]) for name, value in timm_names(network.backbone).items())

    def test_without_a_file_they_stay_as_timm_has_drawn_them(self, offline, logged):
        drawn = build(VIT).state_dict()
        for init_cfg in (None, dict(type='OptionalPretrained', checkpoint='none', hint='$LITE0_WEIGHTS')):
            backbone = build(VIT, init_cfg=init_cfg)
            backbone.init_weights()
            assert all(value.equal(drawn[name]) for name, value in backbone.state_dict().items())
        assert any('$LITE0_WEIGHTS' in message and 'random weights' in message for message in logged)

    def test_another_network_s_are_an_error(self, tmp_path):
        torch.save({'layer1.0.conv1.weight': torch.ones(1)}, tmp_path / 'other.pth')
        backbone = build(LITE, init_cfg=dict(type='OptionalPretrained', checkpoint=str(tmp_path / 'other.pth')))
        with pytest.raises(UserError, match='fits TimmBackbone'):
            backbone.init_weights()


class TestMistakes:
    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(name='resnet10'), r'`resnet10`, which is no model of timm .*; did you mean `resnet10t`\?'),
            (dict(name='hf-hub:timm/resnet10t.c3_in1k'), 'is no model of timm'),
            (dict(name='resnet10t.nonsense'), r'cannot make `resnet10t\.nonsense`.*tag'),
            (dict(name=RESNET, pretrained=True), r'`model\.backbone\.pretrained`.*OptionalPretrained.*downloaded'),
            (dict(name=RESNET, num_classes=3), r'`model\.backbone\.num_classes`.*no classifier'),
            (dict(name=RESNET, wideness=3), r'cannot make `resnet10t` .*wideness'),
            (
                dict(name=RESNET, output_stride=12),
                r'`model\.backbone\.output_stride` of `resnet10t` cannot be 12.* is 32',
            ),
            (dict(name=VIT, output_stride=8), r'`model\.backbone\.output_stride` of `vit_tiny.*cannot be 8.* is 16'),
            (dict(name='densenet121', output_stride=16), r'`model\.backbone\.output_stride` of `dense.*cannot be 16'),
            (dict(name=RESNET, out_indices=(1, 5)), r'`model\.backbone\.out_indices` must be .*0 to 4.*\(1, 5\)'),
            (dict(name=RESNET, out_indices=(-6,)), r'0 to 4.*\(-6,\)'),
            (dict(name=RESNET, out_indices=(3, 1)), 'ascending'),
            (dict(name=VIT, out_indices=(12,)), '0 to 11'),
        ],
    )
    def test_each_is_one_line_that_names_the_setting(self, offline, options, message):
        with pytest.raises(UserError, match=message) as error:
            TimmBackbone(**options)
        assert '\n' not in str(error.value)

    def test_pictures_that_a_model_cannot_see(self):
        backbone = build('test_vit', dynamic_img_size=False)
        with pytest.raises(
            UserError, match=r'`test_vit` gives no maps of 64 x 48 pixels: .*made for 160 x 160.*img_size'
        ):
            backbone(torch.zeros(1, 3, 64, 48))
        assert build('test_vit', dynamic_img_size=False, img_size=(64, 48))(torch.zeros(1, 3, 64, 48))[0].shape[2:] == (
            4,
            3,
        )

    def test_other_errors_are_left_alone(self):
        with pytest.raises(RuntimeError, match='expected input'):
            build(RESNET)(torch.zeros(1, 4, 64, 64))

    def test_missing_package_is_named_with_the_mend(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'timm', None)
        with pytest.raises(UserError, match=r"`pip install timm`, or `pip install -e '\.\[timm\]'`"):
            TimmBackbone(RESNET)

    def test_old_package_is_named_with_the_mend(self, monkeypatch):
        monkeypatch.setattr(timm, '__version__', '1.0.30')
        with pytest.raises(UserError, match=rf'timm {OLDEST_TIMM} or newer, but 1\.0\.30 .*`pip install -U timm`'):
            TimmBackbone(RESNET)

    def test_package_that_cannot_be_imported_is_named_with_the_reason(self, monkeypatch):
        def broken(name):
            raise RuntimeError('operator torchvision::nms does not exist')

        monkeypatch.setattr(importlib, 'import_module', broken)
        with pytest.raises(UserError, match=r'cannot be imported.*torchvision::nms'):
            TimmBackbone(RESNET)


def make_batch():
    """What a data loader gives: two raw BGR pictures with image-level labels."""
    samples = []
    for number in range(2):
        sample = SegDataSample(metainfo=dict(img_path=f'{number}.jpg', ori_shape=(64, 64), img_shape=(64, 64)))
        sample.set_field(LabelData(multi_hot=torch.eye(6)[number]), 'gt_image_labels', dtype=LabelData)
        samples.append(sample)
    inputs = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in samples]
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize(
    ('config', 'backbone', 'channels'),
    [
        ('cam_voc_animals_lite0', {}, (24, 320)),
        ('csrm_voc_animals_lite0', {}, (24, 320)),
        # Two blocks of a transformer, both of the stride of its patches.
        ('cam_voc_animals_lite0', dict(name='test_vit', out_indices=(1, 5)), (64, 64)),
        ('csrm_voc_animals_lite0', dict(name='test_vit', out_indices=(1, 5)), (64, 64)),
    ],
)
def test_a_method_trains_on_it(root, offline, config, backbone, channels):
    init_default_scope('mmseg')
    cfg = load_config(str(root / 'mmcfg' / f'{config}.py'))
    cfg.model.backbone.update(backbone)
    cfg.model.cam_head.in_channels = channels[-1]
    for head in [name for name in ('decode_head', 'representation_head') if name in cfg.model]:
        cfg.model[head].update(c1_in_channels=channels[0], in_channels=channels[-1])
    if 'pseudo_label' in cfg.model:
        cfg.model.pseudo_label.crf = None
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    network = getattr(model, 'student', model)
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.01)
    log_vars = model.train_step(make_batch(), OptimWrapper(optimizer))
    assert all(torch.as_tensor(value).isfinite().all() for value in log_vars.values())
    moved = {name for name, value in network.backbone.state_dict().items() if not value.equal(before[name])}
    assert moved and not [name for name in moved if 'running' in name]
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(make_batch(), False)
        (result, _) = model.predict(data['inputs'], data['data_samples'])
    assert result.pred_sem_seg.data.shape == (1, 64, 64)
