import math
import sys

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from csrm_plugin import functional as F
from csrm_plugin.config.load import load_config
from csrm_plugin.models.segmentors import NonFiniteLossError, PseudoLabelSettings
from csrm_plugin.refine import PixelAdaptiveRefinement, build_refinement
from csrm_plugin.utils import UserError

MUTUAL = ('loss_s2c', 'loss_u', 'loss_m')


def prepare(model, batch):
    """Normalised pictures and data samples, as `loss` takes them."""
    data = model.data_preprocessor(batch, True)
    return data['inputs'], data['data_samples']


def total(losses):
    return sum(value for name, value in losses.items() if name.startswith('loss'))


def seeded_loss(model, inputs, samples):
    torch.manual_seed(3)
    return model.loss(inputs, samples)


class TestTraining:
    def test_train_step_moves_the_whole_student_and_not_the_teacher(self, build, make_batch):
        model = build('CSRM')
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
        before = {name: value.clone() for name, value in model.named_parameters()}
        log_vars = model.train_step(make_batch(), OptimWrapper(optimizer))
        log_vars = {name: float(torch.as_tensor(value).detach()) for name, value in log_vars.items()}
        assert log_vars['loss'] == pytest.approx(sum(log_vars[name] for name in ('loss_c', 'loss_s', *MUTUAL)))
        assert all(math.isfinite(value) for value in log_vars.values())
        assert all(log_vars[name] > 0 for name in ('loss_c', 'loss_s', *MUTUAL))
        for branch in ('backbone', 'decode_head', 'cam_head', 'representation_head'):
            assert any(
                not value.equal(before[name])
                for name, value in model.named_parameters()
                if name.startswith(f'student.{branch}.')
            ), branch
        for name, value in model.named_parameters():
            assert value.equal(before[name]) or name.startswith('student.'), name

    def test_gradients_reach_every_branch_of_the_student_and_nothing_of_the_teacher(self, build, make_batch):
        model = build('CSRM')
        total(model.loss(*prepare(model, make_batch()))).backward()
        for name, value in model.student.named_parameters():
            assert value.grad is not None, name
        assert all(value.grad is None and not value.requires_grad for value in model.teacher.parameters())
        for branch in ('backbone', 'decode_head', 'cam_head', 'representation_head'):
            module = getattr(model.student, branch)
            assert any(value.grad.abs().sum() > 0 for value in module.parameters()), branch

    @pytest.mark.parametrize(
        ('name', 'branch'),
        [('loss_s2c', 'cam_head'), ('loss_u', 'decode_head'), ('loss_m', 'representation_head')],
    )
    def test_mutual_terms_reach_their_branch_only(self, build, make_batch, name, branch):
        model = build('CSRM')
        model.loss(*prepare(model, make_batch()))[name].backward()
        for other in ('decode_head', 'cam_head', 'representation_head'):
            grads = [value.grad for value in getattr(model.student, other).parameters()]
            reached = any(grad is not None and grad.abs().sum() > 0 for grad in grads)
            assert reached == (other == branch), other

    @pytest.mark.parametrize('name', MUTUAL)
    @pytest.mark.parametrize('factor', [0.0, 1.0])
    def test_a_term_that_is_left_out(self, build, make_batch, name, factor):
        model = build('CSRM', **{name: None})
        model.warmup_factor = factor
        losses = model.loss(*prepare(model, make_batch()))
        assert {key for key in losses if key.startswith('loss')} == {'loss_c', 'loss_s', *MUTUAL} - {name}
        total(losses).backward()
        # DistributedDataParallel waits for every parameter that asks for a gradient.
        lacking = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
        assert lacking == []

    def test_warmup_gives_zeros_in_the_graph_and_leaves_the_bank_alone(self, build, make_batch):
        model = build('CSRM')
        model.warmup_factor = 0
        losses = model.loss(*prepare(model, make_batch()))
        assert all(losses[name] == 0 and losses[name].requires_grad for name in MUTUAL)
        assert losses['loss_s'] > 0 and losses['loss_c'] > 0
        total(losses).backward()
        assert all(value.grad is not None for value in model.student.parameters())
        assert model.bank.steps == 0

    def test_ramp_scales_the_mutual_terms_only(self, build, make_batch):
        model = build('CSRM')
        inputs, samples = prepare(model, make_batch())
        bank = {name: value.clone() for name, value in model.bank.state_dict().items()}
        full = seeded_loss(model, inputs, samples)
        model.bank.load_state_dict(bank)
        model.warmup_factor = 0.25
        ramped = seeded_loss(model, inputs, samples)
        for name, value in full.items():
            expected = value * 0.25 if name in MUTUAL else value
            torch.testing.assert_close(ramped[name], expected)

    @pytest.mark.parametrize('restrict', [True, False])
    def test_losses_are_the_functions_of_teacher_and_student(self, build, make_batch, restrict):
        settings = dict(alpha=0.3, sigma_s2c=0.25, restrict_targets=restrict)
        model = build('CSRM', mix_prob=0.0, reliability=settings, loss_m=None)
        for value in model.student.parameters():  # teacher and student differ
            value.data += torch.randn_like(value) * 0.05
        inputs, samples = prepare(model, make_batch())
        losses = model.loss(inputs, samples)

        labels = torch.stack([sample.gt_image_labels.multi_hot for sample in samples])
        with torch.no_grad():
            features = model.teacher.backbone(inputs)
            cams = F.normalize_cam(model.teacher.cam_head(features), (32, 32), labels)
            probs = torch.nn.functional.interpolate(
                model.teacher.decode_head(features), (32, 32), mode='bilinear', align_corners=False
            ).softmax(dim=1)
        pseudo = F.cam_pseudo_labels(None, cams, labels, 0.6, 0.3)
        targets = F.restrict_probs(probs, labels) if restrict else probs
        features = model.student.backbone(inputs)
        cam = model.student.cam_head(features)
        seg = torch.nn.functional.interpolate(
            model.student.decode_head(features), (32, 32), mode='bilinear', align_corners=False
        )
        expected = dict(
            loss_c=torch.nn.functional.multilabel_soft_margin_loss(cam.mean(dim=(2, 3)), labels),
            loss_s=torch.nn.functional.cross_entropy(seg, pseudo, ignore_index=255),
            loss_s2c=F.activation_consistency_loss(cam, seg[:, 0], targets, 0.25),
            loss_u=F.segmentation_consistency_loss(seg, targets, 0.3, F.entropy(probs)),
        )
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6)
        assert losses['reliable/s'].item() == pytest.approx((pseudo != 255).float().mean().item())
        assert losses['pseudo/foreground'].item() == pytest.approx(
            ((pseudo > 0) & (pseudo < 255)).float().mean().item()
        )
        assert losses['student/foreground'].item() == pytest.approx((seg.argmax(dim=1) > 0).float().mean().item())
        assert losses['alpha'].item() == pytest.approx(0.3) and losses['sigma_s2c'].item() == 0.25

    def test_statistics_of_the_design_are_logged_and_not_added_up(self, build, make_batch):
        model = build('CSRM')
        losses = model.loss(*prepare(model, make_batch()))
        statistics = {'reliable/s', 'reliable/s2c', 'reliable/u', 'bank/fill', 'bank/age', 'queries/classes', 'alpha'}
        statistics |= {'contrast/chance', 'contrast/positive', 'contrast/negative'}
        assert statistics <= losses.keys()
        assert all('loss' not in name for name in losses.keys() - {'loss_c', 'loss_s', *MUTUAL})
        assert 0 < losses['bank/fill'] <= 1 and losses['queries/classes'] >= 2
        assert all(0 < abs(losses[f'contrast/{which}']) <= 1 for which in ('positive', 'negative'))
        assert losses['reliable/u'].item() == pytest.approx(0.5, abs=0.01)

    def test_every_class_that_the_labels_name_takes_part_in_the_contrastive_term(self, build, make_batch):
        model = build('CSRM', mix_prob=0.0)
        model.loss_m.options['query_confidence'] = 0.0
        inputs, samples = prepare(model, make_batch())
        targets = model.weak_targets(inputs, samples)
        named = F.shrink_nearest(targets.pseudo_labels, targets.rep.shape[2:]).unique().tolist()
        assert len(set(named) - {255}) >= 3
        assert model.loss(inputs, samples)['queries/classes'] >= len(set(named) - {255})

    def test_label_stride_makes_targets_at_a_smaller_size(self, build, make_batch):
        model = build('CSRM', pseudo_label=dict(fg_threshold=0.6, bg_threshold=0.3, crf=None, stride=2))
        inputs, samples = prepare(model, make_batch((32, 32), (16, 32)))
        targets = model.weak_targets(inputs, samples)
        assert targets.pseudo_labels.shape == targets.valid.shape == (2, 16, 16)
        assert targets.probs.shape == (2, 5, 16, 16) and targets.inputs.shape == (2, 3, 32, 32)
        assert targets.valid[0].all() and targets.valid[1, :8].all() and not targets.valid[1, 8:].any()
        losses = model.loss(inputs, samples)
        total(losses).backward()
        assert all(losses[name] > 0 for name in ('loss_c', 'loss_s', *MUTUAL))
        with pytest.raises(UserError, match=r'`model\.pseudo_label\.stride`.*0'):
            build('CSRM', pseudo_label=dict(stride=0))

    def test_several_views_of_the_teacher_make_the_labels(self, build, make_batch):
        settings = dict(fg_threshold=0.6, bg_threshold=0.3, crf=None, scales=(0.5, 1.0), flip=True)
        model = build('CSRM', mix_prob=0.0, pseudo_label=settings)
        for value in model.student.parameters():
            value.data += torch.randn_like(value)
        inputs, samples = prepare(model, make_batch())
        targets = model.weak_targets(inputs, samples)
        maps = []
        for length in (16, 32):
            view = torch.nn.functional.interpolate(inputs, (length, length), mode='bilinear', align_corners=False)
            for flipped in (False, True):
                cam = model.teacher.cam_head(model.teacher.backbone(view.flip(3) if flipped else view)).relu()
                cam = cam.flip(3) if flipped else cam
                maps.append(torch.nn.functional.interpolate(cam, (32, 32), mode='bilinear', align_corners=False))
        cams = F.normalize_cam(sum(maps), labels=targets.labels)
        expected = F.cam_pseudo_labels(None, cams, targets.labels, 0.6, 0.3)
        assert (targets.pseudo_labels == expected).float().mean() > 0.999
        single = build('CSRM', mix_prob=0.0)
        single.load_state_dict(model.state_dict())
        assert not targets.pseudo_labels.equal(single.weak_targets(inputs, samples).pseudo_labels)
        said = 'teacher; CAMs of scales 0.5 1 with flip; fg_threshold 0.6'
        assert model.training_note.startswith(said) and single.training_note.startswith('teacher; fg_threshold 0.6')

    def test_autocast_gives_finite_float32_losses_near_the_exact_ones(self, build, make_batch):
        model = build('CSRM')
        inputs, samples = prepare(model, make_batch())
        exact = seeded_loss(model, inputs, samples)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = seeded_loss(model, inputs, samples)
        for name in ('loss_c', 'loss_s', *MUTUAL):
            assert losses[name].dtype == torch.float32 and losses[name].isfinite(), name
            assert losses[name].item() == pytest.approx(exact[name].item(), rel=0.2), name
        total(losses).backward()
        assert all(value.grad.isfinite().all() for value in model.student.parameters())

    def test_loss_that_is_not_finite_stops_before_the_weights_are_touched(self, build, make_batch):
        model = build('CSRM')
        optim_wrapper = OptimWrapper(torch.optim.SGD(model.student.parameters(), lr=0.1, momentum=0.9))
        model.train_step(make_batch(), optim_wrapper)
        before = {name: value.clone() for name, value in model.named_parameters()}
        model.loss_s.loss_weight = float('inf')
        with pytest.raises(NonFiniteLossError, match=r'not finite \(loss_s\).*`optim_wrapper\.optimizer\.lr`'):
            model.train_step(make_batch(), optim_wrapper)
        assert all(value.equal(before[name]) for name, value in model.named_parameters())


class TestPadding:
    def test_teacher_says_nothing_about_padding(self, build, make_batch):
        model = build('CSRM', mix_prob=0.0)
        inputs, samples = prepare(model, make_batch((32, 32), (20, 32), (32, 12)))
        targets = model.weak_targets(inputs, samples)
        assert targets.valid.sum(dim=(1, 2)).tolist() == [32 * 32, 20 * 32, 32 * 12]
        assert targets.pseudo_labels[~targets.valid].eq(255).all()
        assert targets.pseudo_labels[targets.valid].ne(255).any()

        student = model.student.branches(targets.inputs)
        seg_logits = model.student.upscale(student.seg, (32, 32))
        bank = {name: value.clone() for name, value in model.bank.state_dict().items()}
        results = []
        small = torch.nn.functional.interpolate(targets.valid[:, None].float(), targets.rep.shape[2:])[:, 0] > 0
        for sharp in (False, True):
            model.bank.load_state_dict(bank)
            noise = torch.zeros_like(targets.probs)
            noise[:, 1] = 1
            changed = targets._replace(
                probs=torch.where(targets.valid[:, None] | ~torch.tensor(sharp), targets.probs, noise),
                small_probs=torch.where(
                    small[:, None] | ~torch.tensor(sharp),
                    targets.small_probs,
                    noise[..., : small.shape[1], : small.shape[2]],
                ),
                rep=torch.where(small[:, None] | ~torch.tensor(sharp), targets.rep, 1e4),
            )
            torch.manual_seed(0)
            results.append(model.mutual_losses(student, seg_logits, changed))
        for name, value in results[0].items():
            torch.testing.assert_close(results[1][name], value, rtol=1e-6, atol=0)
            assert value.isfinite(), name

    def test_padding_does_not_set_the_maximum_of_a_cam(self, build, make_batch, monkeypatch):
        model = build('CSRM', mix_prob=0.0)
        inputs, samples = prepare(model, make_batch((32, 32), (32, 16)))
        cam = torch.zeros(2, 4, 4, 4)
        cam[..., :2] = 1
        cam[1, ..., 2:] = 100
        monkeypatch.setattr(model.teacher.cam_head, 'forward', lambda features: cam)
        pseudo = model.weak_targets(inputs, samples).pseudo_labels
        # Column 0 is far from the border, where the interpolation mixes both.
        assert pseudo[0, :, 0].eq(1).all()
        cam[1, ..., 2:] = 1
        expected = model.weak_targets(inputs, samples).pseudo_labels[1, :, :10]
        cam[1, ..., 3:] = 100
        assert model.weak_targets(inputs, samples).pseudo_labels[1, :, :10].equal(expected)
        assert expected.eq(2).all()


class TestMix:
    def make_targets(self, model, inputs, samples):
        """Targets in which every value tells its picture."""
        targets = model.weak_targets(inputs, samples)
        number = torch.arange(len(inputs)).float().view(-1, 1, 1, 1)
        return targets._replace(
            inputs=number.expand_as(targets.inputs),
            probs=number.expand_as(targets.probs),
            small_probs=number.expand_as(targets.small_probs),
            rep=number.expand_as(targets.rep),
        )

    def test_everything_is_mixed_with_the_same_mask(self, build, make_batch):
        model = build('CSRM', mix_prob=1.0)
        inputs, samples = prepare(model, make_batch())
        targets = self.make_targets(model, inputs, samples)
        mixed = model.mix(targets)
        origin = mixed.inputs[:, 0].long()
        own = torch.arange(4).view(4, 1, 1)
        assert (origin != own).any(dim=(1, 2)).any()
        for values in (mixed.inputs, mixed.probs):
            assert values.eq(origin[:, None]).all()
        for values in (mixed.small_probs, mixed.rep):
            small = torch.nn.functional.interpolate(origin[:, None].float(), values.shape[2:], mode='nearest')
            assert values.eq(small).all()
        rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing='ij')
        assert mixed.pseudo_labels.equal(targets.pseudo_labels[origin, rows, columns])
        pasted = origin != own
        assert not ((mixed.pseudo_labels == 0) | (mixed.pseudo_labels == 255))[pasted].any()
        for b in range(4):
            new = set(mixed.pseudo_labels[b][pasted[b]].tolist())
            present = {c + 1 for c in mixed.labels[b].nonzero().flatten().tolist()}
            assert present == {c + 1 for c in targets.labels[b].nonzero().flatten().tolist()} | new

    def test_nothing_is_mixed_without_chance_or_partner(self, build, make_batch):
        for probability, count in ((0.0, 4), (1.0, 1)):
            model = build('CSRM', mix_prob=probability)
            targets = model.weak_targets(*prepare(model, make_batch(*[(32, 32)] * count)))
            for before, after in zip(targets, model.mix(targets)):
                assert before.equal(after)

    def test_chance_of_each_picture(self, build, make_batch):
        model = build('CSRM', mix_prob=0.5)
        targets = self.make_targets(model, *prepare(model, make_batch()))
        targets = targets._replace(pseudo_labels=torch.ones_like(targets.pseudo_labels))
        own = torch.arange(4).view(4, 1, 1, 1)
        changed = torch.stack([(model.mix(targets).inputs != own).any(dim=(1, 2, 3)) for _ in range(200)])
        assert (changed.float().mean(dim=0) - 0.5).abs().max() < 0.12
        assert 0 < changed.all(dim=1).sum() < 200, 'pictures are drawn one by one'

    def test_small_classes_are_not_pasted(self, build, make_batch):
        model = build('CSRM', mix_prob=1.0, mix_min_area=0.3)
        targets = self.make_targets(model, *prepare(model, make_batch((32, 32), (32, 32))))
        labels = torch.zeros(2, 32, 32, dtype=torch.long)
        labels[:, :8] = 1  # a quarter
        for rows, changed in ((8, False), (16, True)):
            labels[1, :rows] = 1
            mixed = model.mix(targets._replace(pseudo_labels=labels))
            assert mixed.inputs[0].eq(1).any() == changed
            assert mixed.inputs[1].eq(1).all()

    def test_padding_receives_nothing(self, build, make_batch):
        model = build('CSRM', mix_prob=1.0)
        targets = self.make_targets(model, *prepare(model, make_batch((32, 32), (16, 32))))
        targets = targets._replace(
            pseudo_labels=torch.where(targets.valid, 1, 255), labels=torch.tensor([[1.0, 0, 0, 0]] * 2)
        )
        mixed = model.mix(targets)
        assert mixed.inputs[1, :, :16].eq(0).all() and mixed.inputs[1, :, 16:].eq(1).all()
        assert mixed.pseudo_labels[1, 16:].eq(255).all() and mixed.valid.equal(targets.valid)

    def test_warmup_has_nothing_but_pictures_and_labels_to_mix(self, build, make_batch):
        model = build('CSRM', mix_prob=1.0)
        model.warmup_factor = 0
        mixed = model.mix(model.weak_targets(*prepare(model, make_batch())))
        assert mixed.probs is None and mixed.small_probs is None and mixed.rep is None


class TestPictures:
    @pytest.mark.parametrize('bgr_to_rgb', [True, False])
    @pytest.mark.parametrize('normalized', [True, False])
    def test_inverts_the_preprocessor_exactly(self, build, make_batch, bgr_to_rgb, normalized):
        settings = dict(type='SegDataPreProcessor', bgr_to_rgb=bgr_to_rgb, size=(32, 32))
        if normalized:
            settings.update(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
        model = build('CSRM', data_preprocessor=settings)
        batch = make_batch()
        raw = torch.stack(batch['inputs'])
        pictures = model.pictures(prepare(model, batch)[0].float())
        assert pictures.dtype == torch.uint8 and pictures.equal(raw.flip(1).permute(0, 2, 3, 1))

    def test_crf_sees_them(self, build, make_batch):
        model = build('CSRM')
        batch = make_batch()
        raw = torch.stack(batch['inputs'])

        class Recorder:
            def refine_labels(self, images, labels, num_labels):
                self.images, self.num_labels = images, num_labels
                return labels

        model.labeler.refinement = Recorder()
        model.loss(*prepare(model, batch))
        assert torch.from_numpy(model.labeler.refinement.images).equal(raw.flip(1).permute(0, 2, 3, 1))
        assert model.labeler.refinement.num_labels == [3, 3, 3, 3]


class TestPixelAdaptiveRefinement:
    """``refine='par'`` in place of dCRF."""

    SETTINGS = dict(fg_threshold=0.6, bg_threshold=0.3, refine='par', par=dict(iterations=2, dilations=[1, 2]))

    @pytest.fixture
    def model(self, build, monkeypatch):
        """Without the package of dCRF."""
        for name in ('pydensecrf', 'pydensecrf.densecrf'):
            monkeypatch.setitem(sys.modules, name, None)
        return build('CSRM', pseudo_label=self.SETTINGS)

    def test_trains_one_step(self, model, make_batch):
        before = [value.clone() for value in model.student.parameters()]
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
        log_vars = model.train_step(make_batch(), OptimWrapper(optimizer))
        assert torch.isfinite(log_vars['loss']) and log_vars['reliable/s'] > 0
        assert any(not value.equal(old) for value, old in zip(model.student.parameters(), before))
        assert not any(name.startswith('labeler') for name in model.state_dict())

    def test_sees_pictures_and_refines_scores(self, model, make_batch):
        batch = make_batch()
        raw = torch.stack(batch['inputs'])
        seen = []
        model.labeler.refinement.register_forward_pre_hook(lambda _, args: seen.append(args))
        targets = model.weak_targets(*prepare(model, batch))
        ((images, scores),) = seen
        assert images.equal(raw.flip(1)) and scores.shape == (4, 2 + 2, 32, 32)
        refined = model.labeler.refinement(images, scores)
        by_fg = refined[:, 2:].amax(dim=1) > refined[:, 0]
        assert by_fg.equal((targets.pseudo_labels > 0) & (targets.pseudo_labels != 255))
        unrefined = scores[:, 2:].amax(dim=1) > scores[:, 0]
        assert not by_fg.equal(unrefined)

    def test_labels_of_one_picture(self, model):
        picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        cam, labels = torch.rand(4, 20, 30), torch.tensor([0.0, 1, 0, 1])
        result = model.training_labels(picture, cam, labels)
        cams = F.normalize_cam(cam[None], labels=labels[None])
        expected = F.cam_pseudo_labels(picture[None], cams, labels[None], 0.6, 0.3, model.labeler.refinement)[0]
        assert result.equal(expected) and set(result.unique().tolist()) <= {0, 2, 4, 255}

    def test_one_option_is_enough(self, root):
        cfg = load_config(
            str(root / 'mmcfg' / 'csrm_demo.py'),
            {'model.pseudo_label.refine': 'par', 'model.pseudo_label.par.iterations': 4},
        )
        settings = PseudoLabelSettings(**cfg.model.pseudo_label)
        assert isinstance(build_refinement(settings), PixelAdaptiveRefinement) and settings.par['iterations'] == 4

    @pytest.mark.parametrize(('key', 'meant'), [('refin', 'refine'), ('par.iteration', 'par.iterations')])
    def test_misspelt_options_are_refused(self, root, key, meant):
        with pytest.raises(UserError, match=rf'pseudo_label\.{meant}'):
            load_config(str(root / 'mmcfg' / 'csrm_demo.py'), {f'model.pseudo_label.{key}': 3})

    def test_none(self, build):
        assert build('CSRM', pseudo_label=dict(refine='none')).labeler.refinement is None
        assert build('CSRM', pseudo_label=dict(crf=None)).labeler.refinement is None


class TestPrediction:
    def test_sizes_are_the_original_ones(self, build, make_batch):
        model = build('CSRM').eval()
        batch = make_batch((32, 32), (20, 32))
        for sample, size, flip in zip(batch['data_samples'], ((50, 70), (41, 33)), (False, True)):
            sample.set_metainfo(dict(ori_shape=size, flip=flip, flip_direction='horizontal'))
        batch['inputs'][1] = torch.nn.functional.pad(batch['inputs'][1], (0, 0, 0, 12))
        batch['data_samples'][1].set_metainfo(dict(img_padding_size=(0, 0, 0, 12)))
        for sample, (height, width) in zip(model.test_step(batch), ((50, 70), (41, 33))):
            assert sample.cam_logits.shape == (height, width) and sample.cam_logits.data.shape[0] == 4
            assert sample.seg_logits.data.shape == (5, height, width)
            assert sample.pred_sem_seg.data.equal(sample.seg_logits.data.argmax(dim=0, keepdim=True))
            assert sample.pred_image_labels.scores.shape == (4,)
            assert (sample.pred_image_labels.scores > 0).all() and (sample.pred_image_labels.scores < 1).all()

    @pytest.mark.parametrize('network', ['teacher', 'student'])
    def test_network_that_predicts(self, build, make_batch, network):
        model = build('CSRM', test_cfg=dict(network=network)).eval()
        for value in model.student.parameters():
            value.data += torch.randn_like(value) * 0.1
        inputs, _ = prepare(model, make_batch())
        logits = model.encode_decode(inputs)
        outputs = getattr(model, network).branches(inputs)
        torch.testing.assert_close(logits, getattr(model, network).upscale(outputs.seg, (32, 32)))
        torch.testing.assert_close(model(inputs, mode='tensor').cam, outputs.cam)

    def test_without_data_samples(self, build):
        samples = build('CSRM').eval()(torch.randn(2, 3, 32, 32), mode='predict')
        assert [sample.pred_sem_seg.data.shape for sample in samples] == [(1, 32, 32)] * 2


class TestSettings:
    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            (dict(pseudo_label=dict(fg_threshold=0.1, bg_threshold=0.2)), '`bg_threshold`'),
            (dict(pseudo_label=dict(refine='dcrf')), r"`model\.pseudo_label\.refine`.*crf, par, none.*'dcrf'"),
            (dict(pseudo_label=dict(refine='par', par=dict(iterations=-1))), '`iterations`.*-1'),
            (dict(reliability=dict(alpha=1.5)), '`alpha`'),
            (dict(test_cfg=dict(network='both')), "'teacher' or 'student'.*'both'"),
            (dict(cam_head=dict(type='CAMHead', in_channels=16, num_classes=5)), r'decode_head\.num_classes` \(5\)'),
        ],
    )
    def test_wrong_values_are_named(self, build, changes, message):
        with pytest.raises(UserError, match=message):
            build('CSRM', **changes)

    @pytest.mark.parametrize('key', ['pseudo_label', 'reliability'])
    def test_misspelt_settings_are_refused(self, build, key):
        with pytest.raises(TypeError, match='treshold'):
            build('CSRM', **{key: dict(treshold=0.1)})

    def test_crf_is_on_by_default(self, build):
        pytest.importorskip('pydensecrf')
        assert build('CSRM', pseudo_label=None).labeler.refinement.label_confidence == 0.7
        assert build('CSRM', pseudo_label=dict(crf=dict(iterations=3))).labeler.refinement.iterations == 3


class TestFrozenTeacher:
    """While the teacher stays as it is, the labels of a picture are made once."""

    def freeze(self, model):
        model.warmup_factor = 0.0
        model.update_teacher(1)
        return model

    # Made of the mirror image, sums over the views are in another order: a pixel at a threshold may differ.
    @pytest.mark.parametrize(('views', 'differ'), [(dict(), 0), (dict(scales=(0.5, 1.0), flip=True), 0.003)])
    def test_labels_are_those_that_are_made_anew(self, build, make_batch, views, differ):
        model = build('CSRM', pseudo_label=dict(refine='none', fg_threshold=0.5, bg_threshold=0.3, **views))
        model.warmup_factor = 0.0
        inputs, samples = prepare(model, make_batch())
        anew = model.weak_targets(inputs, samples)
        self.freeze(model)
        for _ in range(2):
            kept = model.weak_targets(inputs, samples)
            assert (kept.pseudo_labels != anew.pseudo_labels).float().mean() <= differ
            assert kept.valid.equal(anew.valid)
        assert len(model.kept_labels) == len(inputs)

    def test_teacher_is_not_asked_again(self, build, make_batch, monkeypatch):
        model = self.freeze(build('CSRM'))
        inputs, samples = prepare(model, make_batch())
        first = model.weak_targets(inputs, samples)
        monkeypatch.setattr(model.teacher, 'extract_feat', None)
        assert model.weak_targets(inputs, samples).pseudo_labels.equal(first.pseudo_labels)

    def test_labels_are_forgotten_when_the_teacher_moves(self, build, make_batch):
        model = self.freeze(build('CSRM'))
        inputs, samples = prepare(model, make_batch())
        model.weak_targets(inputs, samples)
        model.update_teacher(0)
        model.weak_targets(inputs, samples)
        assert len(model.kept_labels) == 0


class TestStudentScales:
    def test_student_sees_pictures_and_targets_through_the_same_window(self, build, make_batch):
        model = build('CSRM', student_scales=(2.0, 2.0), mix_prob=0.0)
        inputs, samples = prepare(model, make_batch())
        plain = model.mix(model.weak_targets(inputs, samples))
        torch.manual_seed(0)
        seen = model.zoom(plain)
        torch.manual_seed(0)
        windows = F.random_windows(len(inputs), (2.0, 2.0))
        assert seen.inputs.equal(F.look_through(plain.inputs, windows))
        assert seen.probs.equal(F.look_through(plain.probs, windows))
        assert seen.rep.shape == plain.rep.shape and seen.small_probs.shape == plain.small_probs.shape
        assert seen.pseudo_labels.equal(F.look_through(plain.pseudo_labels, windows, nearest=True, fill=255))
        assert seen.valid.all()

    def test_padding_of_a_shrunk_picture_has_no_label_and_no_say(self, build, make_batch):
        model = build('CSRM', student_scales=(0.5, 0.5))
        losses = model.loss(*prepare(model, make_batch()))
        assert all(math.isfinite(float(value.detach())) for value in losses.values())
        seen = model.zoom(model.weak_targets(*prepare(model, make_batch())))
        assert seen.valid.float().mean() == pytest.approx(0.25, abs=0.05)
        assert (seen.pseudo_labels[~seen.valid] == 255).all()

    def test_what_is_drawn_is_what_the_student_sees(self, build, make_batch):
        model = build('CSRM', student_scales=(2.0, 2.0), mix_prob=0.0).eval()
        inputs, samples = prepare(model, make_batch())
        torch.manual_seed(0)
        mixed = model.training_view(inputs, samples).mixed
        torch.manual_seed(0)
        seen = model.zoom(model.mix(model.weak_targets(inputs, samples)))
        assert mixed.inputs.equal(seen.inputs) and not mixed.inputs.equal(inputs)

    def test_the_paper_has_none(self, build, make_batch):
        model = build('CSRM')
        targets = model.weak_targets(*prepare(model, make_batch()))
        assert model.student_scales is None and model.zoom(targets) is targets

    @pytest.mark.parametrize('scales', [(0, 1), (1.5, 0.5), 1.5, (1, 2, 3)])
    def test_wrong_scales_are_refused(self, build, scales):
        with pytest.raises(UserError, match=r'model\.student_scales'):
            build('CSRM', student_scales=scales)
