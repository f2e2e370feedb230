import torch

from csrm_plugin.models.losses import PseudoLabelLoss


def test_equals_torch_and_leaves_out_uncertain_pixels():
    logits, labels = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    labels[torch.rand(2, 5, 6) < 0.4] = 255
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(PseudoLabelLoss()(logits, labels), expected)
    torch.testing.assert_close(PseudoLabelLoss(loss_weight=0.3)(logits, labels), 0.3 * expected)


def test_nothing_certain():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = PseudoLabelLoss()(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0 and logits.grad.eq(0).all()
