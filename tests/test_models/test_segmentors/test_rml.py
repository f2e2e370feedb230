import copy
import math
import pickle

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS

from csrm_plugin import functional as F
from csrm_plugin.utils import UserError

LEVELS = ('loss_instance', 'loss_feature', 'loss_pixel')
STATISTICS = dict(
    loss_instance={'equivariance', 'prototype_cosine'},
    loss_feature={'context_distance', 'context_kl'},
    loss_pixel={'affinity_distance', 'affinity_kl', 'affinity/same', 'affinity/other'}
    | {'reliable/s', 'reliable/pairs', 'pseudo/foreground'},
)
PREPROCESSOR = dict(
    type='SegDataPreProcessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    bgr_to_rgb=True,
    size=(32, 32),
    pad_val=0,
    seg_pad_val=255,
)
#: As in `mmcfg/_base_/models/rml_mobilenetv2.py`, on the backbone of `conftest.py`.
RML = dict(
    type='RML',
    backbone=dict(type='TinyBackbone'),
    cam_head=dict(type='CAMHead', in_channels=16, num_classes=4, pooling='max'),
    affinity_head=dict(type='AttentionAffinityHead', in_channels=16, embed_dims=8, num_heads=2),
    context_head=dict(type='ContextHead', in_channels=[8, 16], channels=3),
    loss_c=dict(type='MultiLabelSoftMarginLoss'),
    loss_instance=dict(type='InstanceMutualLoss', loss_weight=0.1),
    loss_feature=dict(type='FeatureMutualLoss', loss_weight=0.1),
    loss_pixel=dict(type='PixelMutualLoss', loss_weight=0.1),
    pseudo_label=dict(par=dict(iterations=2, dilations=[1, 2])),
    view_scale=0.5,
    radius=2,
    data_preprocessor=PREPROCESSOR,
)
MOBILENET = dict(
    backbone=dict(
        type='MobileNetV2',
        widen_factor=0.1,
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        out_indices=(1, 2, 4, 6),
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
    ),
    cam_head=dict(type='CAMHead', in_channels=32, num_classes=4, pooling='max'),
    affinity_head=dict(type='AttentionAffinityHead', in_channels=32, embed_dims=8, num_heads=2),
    context_head=dict(type='ContextHead', in_channels=[8, 8, 16, 32], channels=3),
)
MIT = dict(
    backbone=dict(
        type='AttentionMixVisionTransformer',
        embed_dims=8,
        num_layers=(1, 1, 1, 2),
        num_heads=(1, 2, 5, 2),
        strides=(4, 2, 2, 1),
        sr_ratios=(2, 2, 1, 1),  # for pictures of 16 pixels
        drop_path_rate=0.5,
    ),
    cam_head=dict(type='CAMHead', in_channels=16, num_classes=4, pooling='max'),
    affinity_head=dict(type='AffinityHead', num_maps=4),
    context_head=dict(type='ContextHead', in_channels=[8, 16, 40, 16], channels=3),
)
BACKBONES = dict(tiny={}, mobilenet=MOBILENET, mit=MIT)


@pytest.fixture
def build_rml():
    """Build RML with other settings where given, and heads that are not as good as untrained."""

    def build_model(**changes):
        with MODELS.switch_scope_and_registry('mmseg') as models:
            model = models.build(copy.deepcopy(RML | changes))
        model.init_weights()
        model.cam_head.conv.weight.data.mul_(20)
        return model

    return build_model


def prepare(model, batch):
    """Normalised pictures and data samples, as `loss` takes them."""
    data = model.data_preprocessor(batch, True)
    return data['inputs'], data['data_samples']


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def lacking(model):
    """Parameters that ask for a gradient and have none: DistributedDataParallel would wait for them."""
    return [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]


class TestTraining:
    @pytest.mark.parametrize('backbone', BACKBONES)
    def test_train_step(self, build_rml, make_batch, backbone):
        model = build_rml(**BACKBONES[backbone])
        before = {name: value.clone() for name, value in model.named_parameters()}
        wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
        log_vars = model.train_step(make_batch(), wrapper)
        log_vars = {name: float(torch.as_tensor(value).detach()) for name, value in log_vars.items()}
        assert log_vars.keys() == {'loss', 'loss_c', *LEVELS}.union(*STATISTICS.values())
        assert log_vars['loss'] == pytest.approx(sum(log_vars[name] for name in ('loss_c', *LEVELS)))
        assert all(math.isfinite(value) for value in log_vars.values())
        assert all(log_vars[name] > 0 for name in ('loss_c', *LEVELS))
        for branch in ('backbone', 'cam_head', 'affinity_head', 'context_head'):
            names = [name for name in before if name.startswith(f'{branch}.')]
            assert any(not model.get_parameter(name).equal(before[name]) for name in names), branch
        assert model.training and model.context_head.training

    @pytest.mark.parametrize('backbone', BACKBONES)
    @pytest.mark.parametrize('factor', [0.0, 1.0])
    @pytest.mark.parametrize('absent', [(), *((name,) for name in LEVELS), LEVELS], ids=str)
    def test_every_parameter_has_a_gradient(self, build_rml, make_batch, backbone, factor, absent):
        model = build_rml(**BACKBONES[backbone], **dict.fromkeys(absent))
        model.warmup_factor = factor
        losses = model.loss(*prepare(model, make_batch((32, 32), (32, 32))))
        assert {name for name in losses if 'loss' in name} == {'loss_c', *LEVELS} - set(absent)
        expected = set().union(*(STATISTICS[name] for name in LEVELS if name not in absent)) if factor else set()
        assert {name for name in losses if 'loss' not in name} == expected
        if factor == 0:
            assert all(losses[name] == 0 and losses[name].requires_grad for name in LEVELS if name not in absent)
        total(losses).backward()
        assert lacking(model) == []
        for head, level in (('context_head', 'loss_feature'), ('affinity_head', 'loss_pixel')):
            assert all(p.requires_grad == (level not in absent) for p in getattr(model, head).parameters())
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize(
        ('name', 'reached'),
        [('loss_instance', {'cam_head'}), ('loss_feature', {'context_head'}), ('loss_pixel', {'affinity_head'})],
    )
    def test_each_level_reaches_its_branch_and_the_backbone(self, build_rml, make_batch, name, reached):
        model = build_rml()
        model.loss(*prepare(model, make_batch()))[name].backward()
        for branch in ('backbone', 'cam_head', 'context_head', 'affinity_head'):
            grads = [value.grad for value in getattr(model, branch).parameters()]
            moved = any(grad is not None and grad.abs().sum() > 0 for grad in grads)
            assert moved == (branch in reached | {'backbone'}), branch

    def test_losses_are_the_functions_of_both_views(self, build_rml, make_batch):
        model = build_rml().eval()  # without the statistics of a batch
        inputs, samples = prepare(model, make_batch())
        losses = model.loss(inputs, samples)
        labels = torch.stack([sample.gt_image_labels.multi_hot for sample in samples])
        small_inputs = torch.nn.functional.interpolate(inputs, (16, 16), mode='bilinear', align_corners=False)
        features, small_features = model.backbone(inputs), model.backbone(small_inputs)
        cam, small_cam = model.cam_head(features), model.cam_head(small_features)
        context, small_context = model.context_head(features), model.context_head(small_features)
        affinity, small_affinity = model.affinity_head(features), model.affinity_head(small_features)
        torch.testing.assert_close(
            losses['loss_c'], torch.nn.functional.multilabel_soft_margin_loss(cam.amax(dim=(2, 3)), labels)
        )
        cams, small_cams = F.comparable_cam(cam, labels), F.comparable_cam(small_cam, labels)
        distance = F.map_distance(cams, small_cams, (labels > 0)[:, :, None, None])
        cosine = F.prototype_similarity(F.prototypes(features[1], cams), labels)
        torch.testing.assert_close(losses['loss_instance'], 0.1 * (distance + 0.1 * cosine))
        distance = F.map_distance(context, small_context)
        divergence = F.mutual_spatial_kl(context, small_context, 0.05)
        torch.testing.assert_close(losses['loss_feature'], 0.1 * (distance + 0.05**2 * divergence))
        pseudo = model.pseudo_labels(inputs, labels, torch.ones(4, 32, 32, dtype=torch.bool))
        positions = torch.nn.functional.interpolate(pseudo[:, None].float(), (4, 4), mode='nearest-exact')[:, 0].long()
        distance = F.affinity_loss(affinity, F.pair_labels(positions, 2))
        divergence = F.mutual_affinity_kl(F.resize_affinity(affinity, (4, 4), (2, 2)), small_affinity)
        torch.testing.assert_close(losses['loss_pixel'], 0.1 * (distance + divergence))
        assert losses['reliable/s'].item() == pytest.approx((pseudo != 255).float().mean().item())
        assert losses['pseudo/foreground'].item() == pytest.approx(
            ((pseudo > 0) & (pseudo < 255)).float().mean().item()
        )
        assert 0 < losses['reliable/pairs'] < 1

    def test_ramp_scales_the_levels_only(self, build_rml, make_batch):
        model = build_rml().eval()
        inputs, samples = prepare(model, make_batch())
        full = model.loss(inputs, samples)
        model.warmup_factor = 0.25
        for name, value in model.loss(inputs, samples).items():
            torch.testing.assert_close(value, full[name] * 0.25 if name in LEVELS else full[name])

    def test_prototypes_move_apart_and_the_views_agree_more(self, build_rml, make_batch):
        """Each term does what its name says; a prototype term that stays constant is the known defect."""
        weights = dict(loss_c=dict(type='MultiLabelSoftMarginLoss', loss_weight=0))
        cases = (
            ('prototype_cosine', dict(type='InstanceMutualLoss', similarity_weight=1.0), 'loss_instance'),
            ('equivariance', dict(type='InstanceMutualLoss', similarity_weight=0.0), 'loss_instance'),
            ('context_kl', dict(type='FeatureMutualLoss'), 'loss_feature'),
            ('affinity_distance', dict(type='PixelMutualLoss'), 'loss_pixel'),
        )
        for name, loss, level in cases:
            model, batch = build_rml(**weights, **dict.fromkeys(LEVELS) | {level: loss}), make_batch()
            wrapper = OptimWrapper(torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.003))
            found = [float(model.train_step(copy.deepcopy(batch), wrapper)[name]) for _ in range(12)]
            assert found[-1] < 0.9 * found[0], (name, found)

    @pytest.mark.parametrize('hot', [[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
    def test_pictures_of_no_class_of_one_and_of_all(self, build_rml, make_batch, hot):
        model, batch = build_rml(), make_batch((32, 32), (32, 32))
        for sample in batch['data_samples']:
            sample.gt_image_labels.multi_hot = torch.tensor(hot).float()
        losses = model.loss(*prepare(model, batch))
        total(losses).backward()
        assert lacking(model) == [] and all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
        assert all(torch.isfinite(value) for value in losses.values())
        if sum(hot) < 2:
            assert losses['prototype_cosine'] == 0
        if sum(hot) == 0:
            assert losses['loss_instance'] == 0 and losses['pseudo/foreground'] == 0 and losses['reliable/s'] == 1

    @pytest.mark.parametrize('sign', [-1.0, 0.0])
    def test_cams_that_are_negative_or_zero_give_no_nan(self, build_rml, make_batch, sign):
        """A classifier that has learnt nothing yet, or sees a present class nowhere."""
        model = build_rml()
        model.cam_head.conv.weight.data[:2] = sign
        losses = model.loss(*prepare(model, make_batch()))
        total(losses).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)

    def test_nothing_certain(self, build_rml, make_batch, monkeypatch):
        model = build_rml()
        monkeypatch.setattr(model, 'pseudo_labels', lambda inputs, *_: torch.full((len(inputs), 16, 16), 255))
        losses = model.loss(*prepare(model, make_batch()))
        total(losses).backward()
        assert losses['affinity_distance'] == 0 and losses['reliable/pairs'] == 0 and lacking(model) == []

    @pytest.mark.parametrize('size', [(37, 29), (24, 40)])
    def test_odd_sizes(self, build_rml, make_batch, size):
        model = build_rml(view_scale=0.3, data_preprocessor=dict(PREPROCESSOR, size=size))
        losses = model.loss(*prepare(model, make_batch(size, size)))
        total(losses).backward()
        assert all(torch.isfinite(value) for value in losses.values()) and lacking(model) == []

    def test_labels_come_from_evaluation_mode_without_gradient_and_leave_the_mode_alone(
        self, build_rml, make_batch, monkeypatch
    ):
        model = build_rml(**MOBILENET)
        model.train()
        modes = {name: module.training for name, module in model.named_modules()}
        assert not all(modes.values()), 'frozen norms stay in evaluation mode'
        seen, plain = [], model.view

        def spy(inputs):
            if not torch.is_grad_enabled():
                seen.append((any(module.training for module in model.modules()), tuple(inputs.shape[2:])))
            return plain(inputs)

        monkeypatch.setattr(model, 'view', spy)
        inputs, samples = prepare(model, make_batch())
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        model.pseudo_labels(inputs, torch.ones(4, 4), model.valid_pixels(inputs, samples))
        assert seen == [(False, size) for size in ((16, 16), (32, 32), (48, 48)) for _ in range(2)]
        assert {name: module.training for name, module in model.named_modules()} == modes
        assert all(value.equal(buffers[name]) for name, value in model.named_buffers())
        monkeypatch.setattr(model, 'view', lambda inputs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.pseudo_labels(inputs, torch.ones(4, 4), model.valid_pixels(inputs, samples))
        assert {name: module.training for name, module in model.named_modules()} == modes

    @pytest.mark.parametrize('backbone', BACKBONES)
    def test_autocast_gives_finite_float32_losses_near_the_exact_ones(self, build_rml, make_batch, backbone):
        model = build_rml(**BACKBONES[backbone])
        for module in model.modules():  # chance would differ
            if type(module).__name__ == 'DropPath':
                module.drop_prob = 0.0
        inputs, samples = prepare(model, make_batch())
        exact = model.loss(inputs, samples)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = model.loss(inputs, samples)
        for name in ('loss_c', *LEVELS):
            assert losses[name].dtype == torch.float32 and losses[name].isfinite(), name
            # Of 2 x 2 positions of a deep network without training, rounding changes which one is the maximum.
            assert backbone == 'mobilenet' or losses[name].item() == pytest.approx(exact[name].item(), rel=0.3), name
        total(losses).backward()
        # What autocast keeps of a pass without gradient must not stand in for a weight that learns.
        assert lacking(model) == []
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
        assert any(p.grad.abs().sum() > 0 for p in model.cam_head.parameters())

    def test_never_reads_masks(self, build_rml, make_batch):
        model, batch = build_rml().eval(), make_batch()
        inputs, samples = prepare(model, batch)
        before = model.loss(inputs, samples)

        class Untouchable:
            def __getattr__(self, name):
                raise AssertionError('the training read a mask')

        for sample in samples:
            object.__setattr__(sample, '_gt_sem_seg', Untouchable())
        for name, value in model.loss(inputs, samples).items():
            assert value.equal(before[name]), name


class TestPadding:
    def padded(self, build_rml, make_batch, **changes):
        # One stage: bringing another to its size would mix padding into its neighbours.
        context_head = dict(type='ContextHead', in_channels=[16], in_index=[1], channels=3)
        model = build_rml(context_head=context_head, **changes).eval()
        batch = make_batch((32, 32), (32, 16))
        inputs, samples = prepare(model, batch)
        valid = model.valid_pixels(inputs, samples)
        assert valid.sum(dim=(1, 2)).tolist() == [1024, 512]
        return model, inputs, samples, valid

    def test_maps_at_padding_change_neither_losses_nor_labels(self, build_rml, make_batch, monkeypatch):
        model, inputs, samples, valid = self.padded(build_rml, make_batch)
        plain = model.backbone.forward
        # Without a refinement: it looks at pictures. Labels are made from whole positions of the maps.
        model.labeler.refinement = None

        def run(value):
            def forward(x):
                features = tuple(feature.clone() for feature in plain(x))
                for feature in features:
                    feature[1, :, :, feature.shape[3] // 2 :] = value
                return features

            monkeypatch.setattr(model.backbone, 'forward', forward)
            losses = model.loss(inputs, samples)
            pseudo = model.pseudo_labels(inputs, torch.eye(4)[:2] + torch.eye(4)[1:3], valid)
            return losses, pseudo

        losses, pseudo = run(0.0)
        assert pseudo[1, :, 8:].eq(255).all() and pseudo[1, :, :8].ne(255).any()
        for value in (3.0, 50.0):
            other, labels = run(value)
            # Bilinear interpolation mixes the two sides over a position of the smallest map, 16 pixels of the input.
            assert labels[0].equal(pseudo[0]) and labels[1, :, 8:].eq(255).all()
            names = ('loss_c', 'loss_instance', 'loss_feature', 'equivariance', 'prototype_cosine', 'affinity_kl')
            for name in names:
                torch.testing.assert_close(other[name], losses[name], rtol=1e-5, atol=1e-7, msg=name)

    @pytest.mark.parametrize('pooling', ['max', 'avg'])
    def test_a_picture_smaller_than_half_a_position_has_finite_losses(self, build_rml, make_batch, pooling):
        model = build_rml(cam_head=dict(RML['cam_head'], pooling=pooling))
        inputs, samples = prepare(model, make_batch((32, 32), (3, 20)))
        kept = F.inside(model.valid_pixels(inputs, samples), (4, 4))
        assert kept[0].all() and kept[1].nonzero().tolist() == [[0, 0], [0, 1]]  # covers them most
        losses = model.loss(inputs, samples)
        assert all(value.isfinite() for value in losses.values())
        total(losses).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    def test_the_levels_know_what_is_padding(self, build_rml, make_batch):
        model, inputs, samples, _ = self.padded(build_rml, make_batch)
        given = {}
        for name in LEVELS:
            getattr(model, name).register_forward_pre_hook(lambda _, args, name=name: given.update({name: args[-1]}))
        model.loss(inputs, samples)
        expected = torch.ones(2, 2, 2, dtype=torch.bool)  # of the second view, 16 x 16 pixels
        expected[1, :, 1] = False
        assert given['loss_instance'].equal(expected) and given['loss_feature'].equal(expected)
        assert given['loss_pixel'].equal(expected.flatten(1))

    def test_padding_does_not_set_the_maximum_of_a_cam(self, build_rml, make_batch, monkeypatch):
        settings = dict(refine='none', scales=(1.0,), flip=False)
        model, inputs, _, valid = self.padded(build_rml, make_batch, pseudo_label=settings)
        cam = torch.zeros(2, 4, 16, 16)
        cam[..., :8] = 1
        cam[1, ..., 8:] = 100
        monkeypatch.setattr(model, '_forward', lambda *_: cam)
        labels = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
        pseudo = model.pseudo_labels(inputs, labels, valid)
        assert pseudo[0, :, :8].eq(1).all() and pseudo[0, :, 8:].eq(0).all()
        assert pseudo[1, :, :8].eq(3).all() and pseudo[1, :, 8:].eq(255).all()

    def test_pairs_with_padding_teach_nothing(self, build_rml, make_batch):
        model, inputs, samples, valid = self.padded(build_rml, make_batch)
        labels = torch.stack([sample.gt_image_labels.multi_hot for sample in samples])
        pairs, background, statistics = model.pixel_targets(inputs, labels, valid, (4, 4))
        padding = torch.tensor([False, False, True, True]).repeat(4)
        assert pairs[1, padding].eq(255).all() and pairs[1, :, padding].eq(255).all()
        assert pairs[1, ~padding][:, ~padding].ne(255).any()
        assert not background[1, padding].any()
        pseudo = model.pseudo_labels(inputs, labels, valid)
        known = torch.cat([pseudo[0].flatten(), pseudo[1, :, :8].flatten()])
        assert statistics['reliable/s'].item() == pytest.approx((known != 255).float().mean().item())


class TestPseudoLabels:
    def test_worked_by_hand(self, build_rml, make_batch, monkeypatch):
        # One row of four label pixels; CAMs 1, 0.5, 0.3 and 0 of the only class.
        model = build_rml(pseudo_label=dict(refine='none', stride=8, scales=(1.0,), flip=False))
        cam = torch.tensor([4.0, 2.0, 1.2, 0.0]).expand(1, 4, 4, 4)
        monkeypatch.setattr(model, '_forward', lambda *_: cam)
        inputs = torch.zeros(1, 3, 32, 32)
        pseudo = model.pseudo_labels(inputs, torch.tensor([[0.0, 1, 0, 0]]), torch.ones(1, 32, 32, dtype=torch.bool))
        assert pseudo.tolist() == [[[2, 255, 0, 0]] * 4]

    @pytest.mark.parametrize('refine', ['par', 'none'])
    def test_are_those_of_the_functions(self, build_rml, make_batch, refine):
        model = build_rml(pseudo_label=dict(refine=refine, par=dict(iterations=2, dilations=[1, 2])))
        inputs, samples = prepare(model, make_batch())
        labels = torch.stack([sample.gt_image_labels.multi_hot for sample in samples])
        pseudo = model.pseudo_labels(inputs, labels, torch.ones(4, 32, 32, dtype=torch.bool))
        model.eval()
        with torch.no_grad():
            cams = F.normalize_cam(slow_multi_scale(model, inputs, (16, 16)), labels=labels)
        expected = F.cam_pseudo_labels(
            model.pictures(inputs, (16, 16)), cams, labels, 0.55, 0.35, model.labeler.refinement
        )
        assert (refine == 'none') == (model.labeler.refinement is None)
        assert pseudo.dtype == torch.int64 and (pseudo == expected).float().mean() > 0.99
        assert len(pseudo.unique()) > 2

    def test_of_one_picture_for_drawing(self, build_rml):
        model = build_rml(pseudo_label=dict(refine='none'))
        cam = torch.tensor([[[4.0, 2.0, 1.2, -3.0]], [[9.0, 9.0, 9.0, 9.0]], [[0.0] * 4], [[0.0] * 4]])
        picture = np.zeros((1, 4, 3), np.uint8)
        labels = model.training_labels(picture, cam, torch.tensor([1, 0, 0, 0]))
        assert labels.tolist() == [[1, 255, 0, 0]]


def slow_multi_scale(model, inputs, size):
    """Mean of the rectified CAMs of scales 0.5 1 1.5, plain and mirrored, for inputs of 32 x 32."""
    maps = []
    for length in (16, 32, 48):
        view = torch.nn.functional.interpolate(inputs, (length, length), mode='bilinear', align_corners=False)
        for mirrored in (False, True):
            cam = model.cam_head(model.backbone(view.flip(3) if mirrored else view)).relu()
            cam = torch.nn.functional.interpolate(
                cam.flip(3) if mirrored else cam, size, mode='bilinear', align_corners=False
            )
            maps.append(cam)
    return sum(maps) / len(maps)


class TestPrediction:
    @pytest.mark.parametrize('steps', [1, 2])
    def test_one_scale_without_flip_by_hand(self, build_rml, steps):
        model = build_rml(test_cfg=dict(scales=[1], flip=False, steps=steps, power=3.0)).eval()
        inputs = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            features = model.backbone(inputs)
            cam, affinity = model.cam_head(features), model.affinity_head(features)
            samples = model.predict(inputs)
        cams = F.propagate(F.normalize_cam(cam), affinity, radius=2, power=3.0, steps=steps)
        cams = torch.nn.functional.interpolate(cams, (32, 32), mode='bilinear', align_corners=False)
        for index, sample in enumerate(samples):
            torch.testing.assert_close(sample.propagated_cam.data, cams[index])
            torch.testing.assert_close(sample.affinity.data, affinity[index : index + 1])

    def test_affinity_of_finer_positions_than_those_of_the_cam(self, build_rml, make_batch):
        head = dict(type='AttentionAffinityHead', in_channels=[8, 16], in_index=[0, 1], embed_dims=8, num_heads=2)
        model = build_rml(affinity_head=head, test_cfg=dict(scales=[1], flip=False))
        losses = model.loss(*prepare(model, make_batch()))
        total(losses).backward()
        assert lacking(model) == [] and losses['affinity_distance'] > 0
        model.eval()
        inputs = torch.randn(1, 3, 32, 32)
        with torch.no_grad():
            features = model.backbone(inputs)
            (sample,) = model.predict(inputs)
            affinity = model.affinity_head(features)
            cam = torch.nn.functional.interpolate(model.cam_head(features).relu(), (8, 8), mode='bilinear')
        cams = F.propagate(F.normalize_cam(cam), affinity, radius=2)
        cams = torch.nn.functional.interpolate(cams, (32, 32), mode='bilinear')
        torch.testing.assert_close(sample.propagated_cam.data, cams[0])
        assert sample.affinity.grid == (8, 8) and sample.affinity.data.shape == (1, 64, 64)

    @pytest.mark.parametrize('backbone', BACKBONES)
    def test_fields(self, build_rml, backbone):
        model = build_rml(**BACKBONES[backbone]).eval()
        with torch.no_grad():
            samples = model(torch.randn(2, 3, 48, 32), mode='predict')
        for sample in samples:
            rows, columns = sample.affinity.grid
            affinity = sample.affinity.data
            assert affinity.shape == (1, rows * columns, rows * columns)
            assert affinity.min() >= 0 and affinity.max() <= 1
            torch.testing.assert_close(affinity, affinity.transpose(1, 2))
            assert sample.cam_logits.data.shape == sample.propagated_cam.data.shape == (4, 48, 32)
            assert sample.propagated_cam.data.dtype == torch.float32
            assert sample.propagated_cam.data.min() >= 0 and sample.propagated_cam.data.max() <= 1
            assert sample.seg_logits.data.shape == (5, 48, 32) and sample.seg_logits.data.max() <= 0
            assert sample.pred_sem_seg.data.shape == (1, 48, 32) and sample.pred_sem_seg.data.dtype == torch.int64
            assert sample.pred_sem_seg.data.equal(sample.seg_logits.data.argmax(dim=0, keepdim=True))
            torch.testing.assert_close(sample.pred_image_labels.scores, sample_scores(model, sample))

    def test_softmax_of_the_logits_is_threshold_and_cams_over_their_sum(self, build_rml):
        # 160 x 1 positions of values 0..1: class 0 twice as high as class 1, class 2 is not seen, class 3 is zero.
        model = build_rml(test_cfg=dict(threshold=0.25))
        cams = torch.rand(1, 4, 8, 20)
        cams[:, 3] = 0
        seen = torch.tensor([[True, True, False, True]])
        logits = model.segmentation_logits(cams, seen)
        scores = torch.cat([torch.full((1, 1, 8, 20), 0.25), cams / cams.amax(dim=(2, 3), keepdim=True)], dim=1)
        scores[:, 3:] = 0
        torch.testing.assert_close(logits.softmax(dim=1), scores / scores.sum(dim=1, keepdim=True))
        assert logits.isfinite().all() and set(logits.argmax(dim=1).unique().tolist()) == {0, 1, 2}

    def test_worked_by_hand(self, build_rml):
        model = build_rml(test_cfg=dict(threshold=0.4))
        cams = torch.tensor([[[[0.5, 0.2, 0.1]], [[0.3, 0.6, 0.0]], [[0.9, 0.9, 0.9]], [[0.0, 0.0, 0.0]]]])
        # Over their maxima 1 0.4 0.2 and 0.5 1 0; background 0.4 wins the third pixel.
        seen = torch.tensor([[True, True, False, False]])
        probs = model.segmentation_logits(cams, seen).softmax(dim=1)[0, :, 0]
        expected = torch.tensor([[0.4, 0.4, 0.4], [1, 0.4, 0.2], [0.5, 1, 0], [0, 0, 0], [0, 0, 0]])
        torch.testing.assert_close(probs, expected / expected.sum(dim=0))
        assert probs.argmax(dim=0).tolist() == [1, 2, 0]

    def test_only_classes_that_the_classifier_sees(self, build_rml, monkeypatch):
        model = build_rml(test_cfg=dict(score_threshold=0.7)).eval()
        logits = torch.tensor([[2.0, 0.5, -1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])  # sigmoid 0.88 0.62 0.27 0.73
        monkeypatch.setattr(model, 'classify', lambda cam, valid=None: logits)
        with torch.no_grad():
            both, none = model.predict(torch.randn(2, 3, 32, 32))
        assert set(both.pred_sem_seg.data.unique().tolist()) <= {0, 1, 4}
        assert both.propagated_cam.data[1].max() > 0 and both.seg_logits.data[2].exp().max() < 1e-10
        assert none.pred_sem_seg.data.eq(0).all() and none.propagated_cam.data.max() > 0

    def test_encode_decode_is_the_prediction(self, build_rml):
        model = build_rml().eval()
        inputs = torch.randn(2, 3, 36, 28)
        with torch.no_grad():
            logits, samples = model.encode_decode(inputs), model.predict(inputs)
        for row, sample in zip(logits, samples):
            torch.testing.assert_close(sample.seg_logits.data, row)

    def test_sizes_are_the_original_ones(self, build_rml, make_batch):
        model = build_rml().eval()
        batch = make_batch((32, 32), (20, 32))
        for sample, size, flip in zip(batch['data_samples'], ((50, 70), (41, 33)), (False, True)):
            sample.set_metainfo(dict(ori_shape=size, flip=flip, flip_direction='horizontal'))
        batch['inputs'][1] = torch.nn.functional.pad(batch['inputs'][1], (0, 0, 0, 12))
        batch['data_samples'][1].set_metainfo(dict(img_padding_size=(0, 0, 0, 12)))
        inputs = torch.stack(batch['inputs']).float().flip(1).sub(127.5).div(127.5)
        with torch.no_grad():
            cams = model.propagate(inputs).cams
        samples = model.test_step(batch)
        for sample, (height, width) in zip(samples, ((50, 70), (41, 33))):
            assert sample.cam_logits.shape == sample.propagated_cam.shape == (height, width)
            assert sample.seg_logits.data.shape == (5, height, width)
            assert sample.pred_sem_seg.data.equal(sample.seg_logits.data.argmax(dim=0, keepdim=True))
            assert sample.affinity.data.shape == (1, 16, 16) and sample.affinity.grid == (4, 4)
        maps = torch.nn.functional.interpolate(cams, (32, 32), mode='bilinear', align_corners=False)[1:]
        expected = torch.nn.functional.interpolate(maps[:, :, :20].flip(3), (41, 33), mode='bilinear')[0]
        torch.testing.assert_close(samples[1].propagated_cam.data, expected)

    @pytest.mark.parametrize('changes', [dict(loss_pixel=None), dict(test_cfg=dict(steps=0))])
    def test_an_affinity_that_is_not_used_leaves_the_cams_alone(self, build_rml, changes):
        model = build_rml(**changes).eval()
        inputs = torch.randn(1, 3, 32, 32)
        with torch.no_grad():
            (sample,) = model.predict(inputs)
            cams = F.normalize_cam(slow_multi_scale(model, inputs, (4, 4)))
        cams = torch.nn.functional.interpolate(cams, (32, 32), mode='bilinear', align_corners=False)
        torch.testing.assert_close(sample.propagated_cam.data, cams[0])
        assert 'affinity' not in sample
        said = 'CAMs of scales 0.5 1 1.5 with flip (not propagated), background 0.35 in the segmentation'
        assert model.segmentation_note == said

    def test_note(self, build_rml):
        said = 'CAMs of scales 0.5 1 1.5 with flip (propagated: radius 2, power 2), background 0.35 in the segmentation'
        assert build_rml().segmentation_note == said
        other = build_rml(test_cfg=dict(scales=(1,), flip=False, threshold=0.4, steps=3), radius=None)
        how = 'propagated: no radius, power 2, 3 steps'
        assert other.segmentation_note == (f'CAMs of scales 1 without flip ({how}), background 0.4 in the segmentation')

    def test_within_autocast_it_is_float32(self, build_rml):
        model = build_rml().eval()
        inputs = torch.randn(1, 3, 32, 32)
        with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
            (sample,) = model.predict(inputs)
        for field in ('cam_logits', 'propagated_cam', 'seg_logits', 'affinity'):
            assert getattr(sample, field).data.dtype == torch.float32, field

    def test_plain_forward_is_the_cam(self, build_rml):
        model = build_rml().eval()
        inputs = torch.randn(1, 3, 32, 32)
        assert model(inputs, mode='tensor').equal(model.cam_head(model.backbone(inputs)))
        assert model.classify(model(inputs)).equal(model(inputs).amax(dim=(2, 3)))


def sample_scores(model, sample):
    """Class scores of a sample, (C,), from its CAM where that was not resized by much: of the same order only."""
    scores = sample.pred_image_labels.scores
    assert scores.shape == (4,) and scores.min() > 0 and scores.max() < 1
    peaks = sample.cam_logits.data.amax(dim=(1, 2)).sigmoid()
    assert (scores >= peaks - 1e-6).all()  # interpolation lowers a maximum
    return scores


class TestSettings:
    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            (dict(view_scale=1.0), r'`model\.view_scale`.*1\.0'),
            (dict(view_scale=0), r'`model\.view_scale`'),
            (dict(pseudo_label=dict(scales=[])), r'`model\.pseudo_label\.scales`'),
            (dict(pseudo_label=dict(scales=(1, -1))), r'`model\.pseudo_label\.scales`.*-1'),
            (dict(pseudo_label=dict(scales=1.0)), r'`model\.pseudo_label\.scales`'),
            (dict(pseudo_label=dict(scales=['a'])), r"`model\.pseudo_label\.scales`.*'a'"),
            (dict(radius=0), r'`model\.radius`.*0'),
            (dict(pseudo_label=dict(fg_threshold=0.3)), '`bg_threshold`|`fg_threshold`'),
            (dict(pseudo_label=dict(stride=0)), r'`model\.pseudo_label\.stride`.*0'),
            (dict(pseudo_label=dict(stride=1.5)), r'`model\.pseudo_label\.stride`.*1\.5'),
            (dict(pseudo_label=dict(refine='sam')), r"`model\.pseudo_label\.refine`.*'sam'"),
            (dict(test_cfg=dict(scales=1.0)), r'`model\.test_cfg\.scales`'),
            (dict(test_cfg=dict(scales=[0])), r'`model\.test_cfg\.scales`'),
            (dict(test_cfg=dict(threshold=1.5)), r'`model\.test_cfg\.threshold`.*1\.5'),
            (dict(test_cfg=dict(score_threshold=-1)), r'`model\.test_cfg\.score_threshold`'),
            (dict(test_cfg=dict(power=-1)), r'`model\.test_cfg\.power`'),
            (dict(test_cfg=dict(power=math.nan)), r'`model\.test_cfg\.power`'),
            (dict(test_cfg=dict(steps=1.5)), r'`model\.test_cfg\.steps`.*1\.5'),
            (
                dict(affinity_head=dict(type='AffinityHead', num_maps=4)),
                '`model.affinity_head` AffinityHead needs attention maps.*TinyBackbone.*AttentionAffinityHead',
            ),
            (dict(pretrained='x.pth'), r'`model\.pretrained`'),
        ],
    )
    def test_wrong_values_are_named_in_one_line(self, build_rml, changes, message):
        with pytest.raises(UserError, match=message) as caught:
            build_rml(**changes)
        assert '\n' not in str(caught.value)

    @pytest.mark.parametrize('key', ['pseudo_label', 'test_cfg'])
    def test_misspelt_settings_are_refused(self, build_rml, key):
        with pytest.raises(TypeError, match='treshold'):
            build_rml(**{key: dict(treshold=0.1)})

    def test_defaults_are_the_known_settings(self, build_rml):
        model = build_rml(pseudo_label=None)
        settings, refinement = model.labeler.settings, model.labeler.refinement
        assert (settings.fg_threshold, settings.bg_threshold, settings.stride) == (0.55, 0.35, 2)
        assert (settings.scales, settings.flip) == ((0.5, 1, 1.5), True)
        assert (refinement.dilations, refinement.iterations) == ((1, 2, 4, 8, 12, 24), 10)
        assert (model.prediction.threshold, model.prediction.power, model.prediction.scales) == (0.35, 2, (0.5, 1, 1.5))
        settings = {k: v for k, v in RML.items() if k not in ('view_scale', 'radius')}
        with MODELS.switch_scope_and_registry('mmseg') as models:
            model = models.build(copy.deepcopy(settings))
        assert (model.view_scale, model.radius) == (0.3, 8)

    def test_settings_of_the_table_exist(self):
        rml = MODELS.get('RML')
        found = {key for cls in rml.__mro__ for key in vars(cls).get('SETTINGS', ())}
        assert found == {
            'pseudo_label',
            'pseudo_label.crf',
            'pseudo_label.par',
            'test_cfg',
            'test_cfg.pseudo_label',
        }


@pytest.mark.parametrize('backbone', BACKBONES)
def test_copies_are_the_same_model(build_rml, backbone):
    model, other = (build_rml(**BACKBONES[backbone]).eval() for _ in range(2))
    inputs = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = model.encode_decode(inputs)
        assert not other.encode_decode(inputs).equal(expected)
        other.load_state_dict(model.state_dict())
        for copied in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert copied.encode_decode(inputs).equal(expected)
