import io

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

SIZES = {'a': (75, 100), 'b': (100, 60), 'c': (64, 64)}


def draw(size, seed=0):
    """A picture of two coloured blocks on noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    image[10:40, 15:45] = (250, 60, 30)
    image[45:60, 5:50] = (30, 90, 240)
    return image


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / 'pictures').mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(draw(size, seed)).save(tmp_path / 'pictures' / f'{name}.jpg', quality=95)
    return tmp_path / 'pictures'


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=300)


def save_tiny(folder, hq=False):
    """A model with random weights that gives differing masks, ratings and stabilities, and its processor."""
    transformers = pytest.importorskip('transformers')
    host = pytest.importorskip('transformers.models.sam.image_processing_pil_sam')
    kind = 'SamHQ' if hq else 'Sam'
    vision = dict(
        hidden_size=16,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        window_size=2,
        global_attn_indexes=[0],
        num_pos_feats=16,
        mlp_dim=16,
    )
    decoder = dict(hidden_size=32, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=8)
    if hq:
        decoder['vit_dim'] = 16
    config = getattr(transformers, f'{kind}Config')(
        vision_config=vision,
        prompt_encoder_config=dict(hidden_size=32, image_size=64, mask_input_channels=4),
        mask_decoder_config=decoder,
    )
    model = getattr(transformers, f'{kind}Model')(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 2 / parameter[0].numel() ** 0.5, generator=generator)
        model.vision_encoder.pos_embed.normal_(0, 3, generator=generator)
        for layers in model.mask_decoder.output_hypernetworks_mlps:
            layers.proj_out.weight *= 30
        model.mask_decoder.iou_prediction_head.proj_out.weight *= 0.1
        model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(0.5)
    model.save_pretrained(folder)
    side, small = dict(height=64, width=64), dict(height=16, width=16)
    host.SamImageProcessorPil(
        size={'longest_edge': 64}, pad_size=side, mask_size={'longest_edge': 16}, mask_pad_size=small
    ).save_pretrained(folder)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models') / 'tiny-sam'
    save_tiny(folder)
    return str(folder)


@pytest.fixture
def tiny_hq(tmp_path):
    save_tiny(tmp_path / 'hq', hq=True)
    return str(tmp_path / 'hq')


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No test may look for a network."""

    def refuse(*args, **kwargs):
        raise AssertionError('looked for a network')

    monkeypatch.setattr('socket.getaddrinfo', refuse)
