import math

import pytest
import torch
import torch.nn.functional as F

from csrm_plugin.models.losses import MultiLabelSoftMarginLoss


def test_worked_by_hand():
    # log(1 + e^-x) of a present class, log(1 + e^x) of an absent one: x = log 3 gives log(4/3) and log 4.
    logits, labels = torch.full((1, 2), math.log(3)), torch.tensor([[1, 0]])
    expected = (math.log(4 / 3) + math.log(4)) / 2
    assert MultiLabelSoftMarginLoss()(logits, labels).item() == pytest.approx(expected)


def test_equals_torch_and_is_weighted():
    logits, labels = torch.randn(3, 5), (torch.rand(3, 5) < 0.5).float()
    expected = F.multilabel_soft_margin_loss(logits, labels)
    torch.testing.assert_close(MultiLabelSoftMarginLoss()(logits, labels), expected)
    torch.testing.assert_close(MultiLabelSoftMarginLoss(loss_weight=3)(logits, labels), 3 * expected)


def test_label_smoothing():
    # 0.1 makes 1 into 0.95 and 0 into 0.05.
    logits = torch.randn(2, 2)
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.95, 0.05], [0.05, 0.05]]))
    loss = MultiLabelSoftMarginLoss(label_smoothing=0.1)(logits, torch.tensor([[1, 0], [0, 0]]))
    torch.testing.assert_close(loss, expected)


def test_extreme_logits():
    loss = MultiLabelSoftMarginLoss()(torch.tensor([[1e4, -1e4]]), torch.tensor([[1.0, 0.0]]))
    assert loss.item() == 0
    assert MultiLabelSoftMarginLoss()(torch.tensor([[-1e4]]), torch.tensor([[1.0]])).item() == pytest.approx(1e4)


@pytest.mark.parametrize('smoothing', [-0.1, 1.0])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match='`label_smoothing`'):
        MultiLabelSoftMarginLoss(label_smoothing=smoothing)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_chance_is_what_the_best_constant_logits_cost(smoothing):
    labels = (torch.rand(200, 3) < torch.tensor([0.1, 0.5, 0.0])).float()
    loss = MultiLabelSoftMarginLoss(label_smoothing=smoothing, loss_weight=2)
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200)

    def step():
        optimizer.zero_grad()
        value = loss(logits.expand(200, 3), labels)
        value.backward()
        return value

    optimizer.step(step)
    found = loss(logits.expand(200, 3), labels).item()
    assert loss.chance(labels.mean(dim=0)) == pytest.approx(found, abs=1e-3)
    assert loss.chance(torch.zeros(3)) == pytest.approx(2 * 0.0 if not smoothing else 2 * 0.1985, abs=1e-4)
