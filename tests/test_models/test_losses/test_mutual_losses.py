import pytest
import torch
from mmseg.registry import MODELS

from csrm_plugin import functional as F
from csrm_plugin.models.losses import FeatureMutualLoss, InstanceMutualLoss, PixelMutualLoss
from csrm_plugin.utils import UserError


def leaf(*shape):
    return torch.rand(*shape).requires_grad_()


class TestInstanceMutualLoss:
    labels = torch.tensor([[1, 0, 1], [0, 1, 1]])

    def test_equals_the_functions(self):
        cam, small, features = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 2, 3), torch.randn(2, 5, 4, 6)
        valid = torch.ones(2, 2, 3, dtype=torch.bool)
        valid[1, :, 2] = False
        mask = (self.labels > 0)[:, :, None, None] & valid[:, None]
        distance = F.map_distance(cam, small, mask)
        cosine = F.prototype_similarity(F.prototypes(features, cam), self.labels)
        loss, terms = InstanceMutualLoss(similarity_weight=0.3, loss_weight=2)(cam, small, features, self.labels, valid)
        torch.testing.assert_close(loss, 2 * (distance + 0.3 * cosine))
        assert terms == dict(equivariance=distance, prototype_cosine=cosine) and distance > 0

    def test_absent_classes_and_padding_do_not_count(self):
        cam, small, features = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 2, 2), torch.randn(2, 5, 4, 4)
        valid = torch.tensor([[True, True], [True, False]]).expand(2, 2, 2)
        loss, _ = InstanceMutualLoss()(cam, small, features, self.labels, valid)
        small[self.labels == 0] = 7
        small[..., 1, 1] = 7
        cam[self.labels == 0] = 0.5
        assert InstanceMutualLoss()(cam, small, features, self.labels, valid)[0].equal(loss)

    def test_prototypes_teach_the_features_only(self):
        cam, small, features = leaf(2, 3, 4, 4), leaf(2, 3, 2, 2), leaf(2, 5, 4, 4)
        loss, terms = InstanceMutualLoss()(cam, small, features, self.labels)
        grads = torch.autograd.grad(loss, (cam, small, features))
        (alone,) = torch.autograd.grad(F.map_distance(cam, small, (self.labels > 0)[:, :, None, None]), cam)
        torch.testing.assert_close(grads[0], alone)
        assert grads[1].abs().sum() > 0 and grads[2].abs().sum() > 0
        assert not any(term.requires_grad for term in terms.values())

    @pytest.mark.parametrize('labels', [[[0, 0, 0]], [[0, 1, 0]]])
    @pytest.mark.parametrize('value', [0.0, 1.0])
    def test_no_or_one_class_and_empty_cams(self, labels, value):
        cam, small = (torch.full((1, 3, 2, 2), value, requires_grad=True) for _ in range(2))
        features = leaf(1, 4, 2, 2)
        loss, terms = InstanceMutualLoss()(cam, small, features, torch.tensor(labels))
        loss.backward()
        assert loss.item() == 0 and terms['prototype_cosine'] == 0
        assert all(maps.grad.eq(0).all() for maps in (cam, small, features))

    def test_a_present_class_without_cam_gives_finite_gradients(self):
        logits = torch.randn(2, 3, 4, 4)
        logits[0, 0] = -1.0
        logits.requires_grad_()
        features = leaf(2, 5, 4, 4)
        cam = F.comparable_cam(logits, self.labels)
        loss, _ = InstanceMutualLoss()(cam, F.shrink(cam, (2, 2)) * 0.9, features, self.labels)
        loss.backward()
        assert logits.grad.isfinite().all() and features.grad.isfinite().all()
        assert features.grad.abs().sum() > 0

    def test_gradcheck(self):
        cam, small, features = (
            torch.rand(shape, dtype=torch.float64).requires_grad_()
            for shape in ((2, 3, 3, 2), (2, 3, 2, 2), (2, 4, 3, 2))
        )
        module = InstanceMutualLoss()
        # The weights of the prototypes are constants to the gradient: checked with the cosine left out.
        assert torch.autograd.gradcheck(lambda x: module(cam.detach(), small.detach(), x, self.labels)[0], features)
        module.similarity_weight = 0.0
        inputs = (cam, small)
        assert torch.autograd.gradcheck(lambda x, y: module(x, y, features.detach(), self.labels)[0], inputs)


class TestFeatureMutualLoss:
    def test_equals_the_functions(self):
        context, small = torch.rand(2, 3, 6, 4), torch.rand(2, 3, 3, 2)
        valid = torch.rand(2, 3, 2) < 0.7
        distance = F.map_distance(context, small, valid[:, None])
        divergence = F.mutual_spatial_kl(context, small, 0.1, valid)
        loss, terms = FeatureMutualLoss(temperature=0.1, kl_weight=0.5, loss_weight=3)(context, small, valid)
        torch.testing.assert_close(loss, 3 * (distance + 0.5 * 0.1**2 * divergence))
        assert terms == dict(context_distance=distance, context_kl=divergence)
        assert distance > 0 and divergence > 0

    def test_a_sharper_softmax_does_not_drown_the_distance(self):
        # For small differences the divergence of logits x / tau grows with 1 / tau^2.
        context = 0.001 * torch.rand(2, 3, 4, 4)
        small = 0.001 * torch.rand(2, 3, 4, 4)
        losses = [
            FeatureMutualLoss(temperature=tau)(context, small)[0] - F.map_distance(context, small)
            for tau in (0.05, 0.1, 1.0)
        ]
        assert losses[0] > 0
        torch.testing.assert_close(losses[0], losses[2], rtol=0.1, atol=1e-9)
        torch.testing.assert_close(losses[1], losses[2], rtol=0.1, atol=1e-9)

    def test_equal_views_cost_nothing_and_both_learn(self):
        context = leaf(1, 2, 3, 3)
        assert FeatureMutualLoss()(context, context.detach())[0].item() == pytest.approx(0, abs=1e-6)
        small = leaf(1, 2, 3, 3)
        FeatureMutualLoss()(context, small)[0].backward()
        assert context.grad.abs().sum() > 0 and small.grad.abs().sum() > 0

    def test_padding_and_nothing_valid(self):
        context, small = leaf(1, 2, 2, 4), leaf(1, 2, 2, 4)
        valid = torch.tensor([True, True, False, False]).expand(1, 2, 4)
        loss, _ = FeatureMutualLoss()(context, small, valid)
        changed = torch.where(valid[:, None], small, 9.0)
        assert FeatureMutualLoss()(context, changed, valid)[0].equal(loss)
        loss, _ = FeatureMutualLoss()(context, small, torch.zeros_like(valid))
        loss.backward()
        assert loss.item() == 0 and context.grad.eq(0).all() and small.grad.eq(0).all()


class TestPixelMutualLoss:
    def make(self):
        affinity, small = leaf(2, 12, 12), leaf(2, 4, 4)
        pairs = torch.tensor([0, 1, 255])[torch.randint(0, 3, (2, 12, 12))]
        return affinity, small, pairs, (4, 3), (2, 2), torch.rand(2, 12) < 0.7

    def test_equals_the_functions(self):
        affinity, small, pairs, size, small_size, _ = arguments = self.make()
        valid = torch.rand(2, 4) < 0.8
        distance = F.affinity_loss(affinity, pairs)
        divergence = F.mutual_affinity_kl(F.resize_affinity(affinity, size, small_size), small, valid)
        loss, terms = PixelMutualLoss(kl_weight=0.5, loss_weight=3)(*arguments, valid)
        torch.testing.assert_close(loss, 3 * (distance + 0.5 * divergence))
        assert terms['affinity_distance'].equal(distance.detach()) and terms['affinity_kl'].equal(divergence.detach())
        torch.testing.assert_close(terms['affinity/same'], affinity[pairs == 1].mean().detach())
        torch.testing.assert_close(terms['affinity/other'], affinity[pairs == 0].mean().detach())
        assert not any(term.requires_grad for term in terms.values())

    def test_no_certain_pair_leaves_the_agreement_of_the_views(self):
        affinity, small, pairs, size, small_size, background = self.make()
        loss, terms = PixelMutualLoss()(affinity, small, torch.full_like(pairs, 255), size, small_size, background)
        loss.backward()
        assert terms['affinity_distance'] == terms['affinity/same'] == terms['affinity/other'] == 0
        torch.testing.assert_close(loss.detach(), terms['affinity_kl'])
        assert affinity.grad.isfinite().all() and small.grad.abs().sum() > 0

    def test_balanced_gives_small_objects_half_of_the_weight(self):
        """One picture: 18 background positions and two of an object, all affinities 0 but those of the background."""
        labels = torch.zeros(1, 4, 5, dtype=torch.long)
        labels[0, 0, :2] = 3
        pairs, background = F.pair_labels(labels), (labels == 0).flatten(1)
        affinity = (background[:, :, None] & background[:, None]).float()
        arguments = affinity, torch.ones(1, 1, 1), pairs, (4, 5), (1, 1), background
        # Pairs of one class: 18 * 17 right ones, 2 * 1 wrong ones; counts are plus one. Pairs of two classes are right.
        plain, _ = PixelMutualLoss(kl_weight=0)(*arguments)
        assert plain.item() == pytest.approx(2 / (18 * 17 + 2 + 1) / 2)
        balanced, _ = PixelMutualLoss(kl_weight=0, balanced=True)(*arguments)
        assert balanced.item() == pytest.approx(2 / (2 + 1) / 4)

    def test_one_position(self):
        affinity, small = leaf(2, 1, 1), leaf(2, 1, 1)
        loss, _ = PixelMutualLoss()(affinity, small, torch.full((2, 1, 1), 255), (1, 1), (1, 1), torch.ones(2, 1) > 0)
        loss.backward()
        assert loss.item() == 0 and affinity.grad.eq(0).all() and small.grad.eq(0).all()

    def test_statistics_of_half_precision_are_exact(self):
        affinity = torch.full((1, 300, 300), 0.5, dtype=torch.float16)
        pairs = torch.ones(1, 300, 300, dtype=torch.long)
        loss, terms = PixelMutualLoss()(affinity, affinity[:, :4, :4], pairs, (15, 20), (2, 2), torch.ones(1, 300) > 0)
        assert loss.dtype == torch.float32 and terms['affinity/same'].item() == pytest.approx(0.5, rel=1e-5)

    def test_training_on_it_tells_pairs_apart(self):
        _, small, pairs, size, small_size, background = self.make()
        logits, before = torch.zeros(2, 12, 12, requires_grad=True), None
        for _ in range(10):
            loss, terms = PixelMutualLoss(kl_weight=0.0)(logits.sigmoid(), small, pairs, size, small_size, background)
            before = before or terms
            (gradient,) = torch.autograd.grad(loss, logits)
            logits = (logits - 1000 * gradient).detach().requires_grad_()
        assert before['affinity/same'] == before['affinity/other'] == 0.5
        assert terms['affinity/same'] > 0.9 and terms['affinity/other'] < 0.1


@pytest.mark.parametrize(
    ('kind', 'settings', 'message'),
    [
        ('InstanceMutualLoss', dict(similarity_weight=-1), '`similarity_weight` must be at least 0, but is -1'),
        ('InstanceMutualLoss', dict(loss_weight=float('nan')), '`loss_weight` must be at least 0, but is nan'),
        ('FeatureMutualLoss', dict(temperature=0), '`temperature` must be above 0, but is 0'),
        ('FeatureMutualLoss', dict(kl_weight=-0.1), '`kl_weight`'),
        ('PixelMutualLoss', dict(kl_weight=-0.1), '`kl_weight`'),
    ],
)
def test_settings(kind, settings, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(dict(type=kind, **settings))


def test_statistics_are_not_added_up():
    """MMEngine adds up every key that contains `loss`."""
    cam, small, labels = torch.rand(1, 2, 2, 2), torch.rand(1, 2, 1, 1), torch.ones(1, 2)
    affinity = torch.rand(1, 4, 4)
    results = [
        InstanceMutualLoss()(cam, small, cam, labels),
        FeatureMutualLoss()(cam, small),
        PixelMutualLoss()(affinity, affinity[:, :1, :1], torch.ones(1, 4, 4), (2, 2), (1, 1), torch.ones(1, 4) > 0),
    ]
    names = [name for _, terms in results for name in terms]
    assert len(names) == len(set(names)) == 8 and not any('loss' in name for name in names)
