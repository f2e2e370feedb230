import torch
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from torch import nn

from csrm_plugin.models.layers import split_norm_act


class NormAct(nn.BatchNorm2d):
    """Norm, a factor and an activation in one layer, as timm has it."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3, momentum=0.3)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


def make():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4), nn.Sequential(nn.BatchNorm2d(4), NormAct(4)))
    for value in network.state_dict().values():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    return network.eval()


def test_computes_and_learns_the_same():
    x = torch.randn(2, 3, 8, 8)
    whole, split = make(), make()
    split.load_state_dict(whole.state_dict())
    parameters = list(split.parameters())
    split_norm_act(split)
    assert all(ours is theirs for ours, theirs in zip(split.parameters(), parameters))
    assert torch.equal(split(x), whole(x))
    for network in (whole, split):
        network.train()(x).square().mean().backward()
    for ours, theirs in zip(split.parameters(), whole.parameters()):
        assert torch.equal(ours.grad, theirs.grad)
    for ours, theirs in zip(split.buffers(), whole.buffers()):
        assert torch.equal(ours, theirs)  # the running statistics have moved alike


def test_plain_norms_stay_and_the_others_get_a_name():
    network = make()
    plain = network[2][0]
    split_norm_act(network)
    split_norm_act(network)  # there is nothing left to do
    assert network[2][0] is plain and type(network[1].norm) is nn.BatchNorm2d
    assert '1.norm.weight' in network.state_dict() and '2.0.weight' in network.state_dict()


def test_what_is_made_synchronous_and_back_still_activates():
    x, network = torch.randn(2, 3, 8, 8), make()
    expected = network(x)
    lost = revert_sync_batchnorm(convert_sync_batchnorm(network)).eval()(x)
    assert expected.min() == 0 and lost.min() < 0  # or the test would see nothing
    network = make()
    network.load_state_dict(make().state_dict())
    expected = network(x)
    split_norm_act(network)
    assert torch.equal(revert_sync_batchnorm(convert_sync_batchnorm(network)).eval()(x), expected)
