import torch

from csrm_plugin.models.decode_heads import RepresentationHead

OPTIONS = dict(
    in_channels=16, in_index=1, channels=8, dilations=(1, 2), c1_in_channels=8, c1_channels=4, norm_cfg=dict(type='BN')
)


def test_embedding_at_the_resolution_of_the_decoder():
    head = RepresentationHead(embed_dims=7, **OPTIONS)
    rep = head((torch.randn(2, 8, 16, 16), torch.randn(2, 16, 4, 4)))
    assert rep.shape == (2, 7, 16, 16) and head.num_classes == 7
    assert (rep < 0).any(), 'an embedding has no activation at its end'


def test_no_dropout_unless_asked_for():
    assert RepresentationHead(**OPTIONS).dropout is None
    assert RepresentationHead(dropout_ratio=0.3, **OPTIONS).dropout.p == 0.3
