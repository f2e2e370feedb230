"""Key names of SegFormer's transformer (MiT) as its authors released it, and how they map to the host's.

``patch_embed1.proj.weight``, ``block1.0.attn.q.weight``, ..., ``norm1.weight`` become ``layers.0.0.projection.weight``,
``layers.0.1.0.attn.attn.in_proj_weight``, ..., ``layers.0.2.weight``. Two things are more than names: keys and values
are one layer there (keys first), and queries, keys and values are one here; and the two linear layers of a feed-forward
part are 1x1 convolutions here.
"""

import re
from collections.abc import Container, Mapping

import torch
from torch import Tensor

#: Where a transformer may be: alone, in a SegFormer, in a weakly supervised network.
PREFIXES = ('', 'backbone.', 'encoder.')

#: Names in a block -> the host's.
_BLOCK = {
    'norm1.': 'norm1.',
    'norm2.': 'norm2.',
    'attn.proj.': 'attn.attn.out_proj.',
    'attn.sr.': 'attn.sr.',
    'attn.norm.': 'attn.norm.',
    'mlp.fc1.': 'ffn.layers.0.',
    'mlp.dwconv.dwconv.': 'ffn.layers.1.',
    'mlp.fc2.': 'ffn.layers.4.',
}
#: Names beside the blocks, by stage -> the host's.
_STAGE = {'patch_embed{}.proj.': '0.projection.', 'patch_embed{}.norm.': '0.norm.', 'norm{}.': '2.'}

_BLOCK_KEY = re.compile(r'block(\d+)\.(\d+)\.(.+)')


def find_prefix(keys: Container[str]) -> str | None:
    """The prefix of a MiT with its original names among ``keys``; None if there is none."""
    wanted = 'patch_embed1.proj.weight', 'block1.0.attn.q.weight', 'block1.0.attn.kv.weight'
    return next((prefix for prefix in PREFIXES if all(prefix + name in keys for name in wanted)), None)


def rename(
    state_dict: Mapping[str, Tensor], prefix: str = ''
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Map a MiT with its original names to the host's.

    Args:
        state_dict (dict[str, Tensor]): Of a whole checkpoint.
        prefix (str): From :func:`find_prefix`.

    Returns:
        tuple[dict[str, Tensor], dict[str, str], dict[str, str]]: The transformer under the host's names; those names to
        the source's; source keys without a counterpart to the reason. Names of a transformer under a prefix get the
        prefix `backbone.`.
    """
    tensors, mapped, dropped = {}, {}, {}
    place = 'backbone.' if prefix else ''
    for key, tensor in state_dict.items():
        body = key[len(prefix) :] if key.startswith(prefix) else ''
        if '.attn.kv.' in body and _BLOCK_KEY.fullmatch(body):
            continue  # comes with its queries
        target, sources = _host_name(body), [key]
        if target is None:
            dropped[key] = _why_dropped(key, prefix)
            continue
        if '.attn.in_proj_' in target:
            sources.append(key.replace('.attn.q.', '.attn.kv.'))
            tensor = torch.cat([state_dict[source] for source in sources])
        if re.search(r'\.ffn\.layers\.[04]\.weight$', target):
            tensor = tensor[:, :, None, None]
        tensors[place + target], mapped[place + target] = tensor, ' + '.join(sources)
    return tensors, mapped, dropped


def _host_name(body):
    """The host's name of a tensor of the transformer, or None."""
    block = _BLOCK_KEY.fullmatch(body)
    if block:
        stage, index, rest = int(block[1]) - 1, block[2], block[3]
        if rest.startswith('attn.q.'):
            return f'layers.{stage}.1.{index}.attn.attn.in_proj_{rest.removeprefix("attn.q.")}'
        for theirs, ours in _BLOCK.items():
            if rest.startswith(theirs):
                return f'layers.{stage}.1.{index}.{ours}{rest.removeprefix(theirs)}'
        return None
    for theirs, ours in _STAGE.items():
        match = re.fullmatch(re.escape(theirs).replace(r'\{\}', r'(\d+)') + '(weight|bias)', body)
        if match:
            return f'layers.{int(match[1]) - 1}.{ours}{match[2]}'
    return None


def _why_dropped(key, prefix):
    if key.startswith(f'{prefix}head.'):
        return 'classifier of ImageNet'
    return 'unknown' if key.startswith(prefix) else 'not of the backbone'
