"""Key names of published checkpoints, and how they map to ours.

Ours are the host's: ``backbone.*`` (``stem.*``, ``layer1.*``, ...), ``cam_head.conv.weight``, ``decode_head.*``,
``representation_head.*``. The published classifiers have the key names of the original ResNeSt (or torchvision's
ResNet) under a prefix, and ``classifier.weight``:

============  ====================================================================================================
kind          key names
============  ====================================================================================================
`resnest`     a release of ResNeSt: ``conv1.0.weight``, ``layer1.0.conv2.fc1.weight``, ..., ``fc.*``
`puzzle-cam`  Puzzle-CAM, and P-NOC in its early layout: ``model.*``, the same tensors again as ``stage1.*`` to
              ``stage5.*``, ``classifier.weight``
`p-noc`       P-NOC in its later layout: ``backbone.*``, ``classifier.weight``
`csrm`        the same, and ``aspp.*``, ``project.*``, ``decoder.*``, ``representation.*``
`mit`         SegFormer's transformer as released, alone or as ``backbone.*``: ``block1.0.attn.q.weight``, ...; see
              :mod:`csrm_plugin.models.checkpoints.names`
`lite`        EfficientNet-Lite in its PyTorch port: ``_blocks.0._depthwise_conv.weight``, ...; becomes timm's names,
              for a ``TimmBackbone``; see :mod:`csrm_plugin.models.checkpoints.lite_names`
============  ====================================================================================================
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from csrm_plugin.models.checkpoints import lite_names
from csrm_plugin.models.checkpoints import names as mit_names
from csrm_plugin.utils import UserError

#: Kind of checkpoint -> where its backbone is; that of a `mit` may also be under a prefix.
KINDS = {'resnest': '', 'puzzle-cam': 'model.', 'p-noc': 'backbone.', 'csrm': 'backbone.', 'mit': '', 'lite': ''}

#: Kinds that become timm's names and not the host's.
TIMM_KINDS = ('lite',)

#: Blocks in the four stages -> layers.
DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152, (3, 24, 36, 3): 200, (3, 30, 48, 8): 269}

#: Second names of the tensors in Puzzle-CAM's backbone -> first names.
_STAGES = (
    ('stage1.0.', 'model.conv1.'),
    ('stage1.1.', 'model.bn1.'),
    ('stage2.0.', 'model.layer1.'),
    ('stage3.0.', 'model.layer2.'),
    ('stage4.0.', 'model.layer3.'),
    ('stage5.0.', 'model.layer4.'),
)

#: Names in the original backbones.
_BODY = r'(conv1|bn1|layer[1-4])\.'

_DENSE = 'dense 3x3 convolution and its norm; the host head has a depthwise separable one there'

#: What decoder and representation branch of a published CSRM share -> in the host's ``DepthwiseSeparableASPPHead``.
#: Ours share nothing, so both heads get a copy. ``{norm}`` is `bn` or `gn`.
_SHARED = {
    'aspp.aspp1.atrous_conv.': 'aspp_modules.0.conv.',
    'aspp.aspp1.bn.': 'aspp_modules.0.{norm}.',
    'aspp.global_avg_pool.1.': 'image_pool.1.conv.',
    'aspp.global_avg_pool.2.': 'image_pool.1.{norm}.',
    'aspp.conv1.': 'bottleneck.conv.',
    'aspp.bn1.': 'bottleneck.{norm}.',
    'project.0.': 'c1_bottleneck.conv.',
    'project.1.': 'c1_bottleneck.{norm}.',
}

#: Our heads -> the whole of what they get.
_HEADS = {
    'decode_head.': {**_SHARED, 'decoder.8.': 'conv_seg.'},
    'representation_head.': {**_SHARED, 'representation.3.': 'conv_seg.'},
}

#: Patterns of keys without a counterpart -> why; what matches none is unknown.
_DROPPED = (
    (r'fc\.', 'classifier of ImageNet'),
    (r'aspp\.aspp[234]\.', f'ASPP branches: {_DENSE}'),
    (r'decoder\.[0145]\.', f'decoder: {_DENSE}'),
    (r'representation\.[01]\.', f'representation branch: {_DENSE}'),
    (r'saliency_head\.', 'saliency head: ours has none'),
)


@dataclass
class Conversion:
    """What became of a checkpoint.

    Attributes:
        kind (str): One of :data:`KINDS`.
        state_dict (dict[str, Tensor]): The tensors under our key names.
        mapped (dict[str, str]): Our key to the source key; two of ours may come from one.
        dropped (dict[str, str]): Source key to the reason why it is not in ``state_dict``.
        depth (int | None): Layers of the backbone; None for an unknown number of blocks.
        family (str): `ResNeSt`, `ResNet`, `MiT` or `EfficientNet-Lite`.
        num_classes (int | None): Image classes, without the background; None for a backbone alone.
        norm (str | None): `bn` or `gn`, the norm layers of the decoder; None where there is none.
    """

    kind: str
    state_dict: dict = field(default_factory=dict)
    mapped: dict = field(default_factory=dict)
    dropped: dict = field(default_factory=dict)
    depth: int | None = None
    family: str = 'ResNeSt'
    num_classes: int | None = None
    norm: str | None = None

    def groups(self) -> list[tuple[str, int, str]]:
        """Count the keys by what became of them.

        Returns:
            list[tuple[str, int, str]]: Group, number of tensors, and an example ``source -> target``, or the reason.
        """
        groups = {}
        for target, source in self.mapped.items():
            head = re.match(r'(cam_head|decode_head|representation_head)\.', target)
            name = head[1] if head else 'backbone'
            groups.setdefault(name, []).append(f'{source} -> {target}')
        for source, reason in self.dropped.items():
            groups.setdefault(f'dropped: {reason}', []).append(source)
        return [(name, len(examples), examples[0]) for name, examples in groups.items()]


def detect_kind(state_dict: Mapping[str, Tensor]) -> str:
    """Tell the kind of a checkpoint by its key names.

    Args:
        state_dict (dict[str, Tensor]): As from :func:`~csrm_plugin.models.checkpoints.io.unwrap_state_dict`.

    Returns:
        str: One of :data:`KINDS`.

    Raises:
        UserError: If it is of no known kind; names the first keys and the kinds.
    """
    keys = set(state_dict)

    def has_body(prefix):
        return f'{prefix}layer1.0.conv1.weight' in keys and {f'{prefix}conv1.0.weight', f'{prefix}conv1.weight'} & keys

    mend = ''
    if mit_names.find_prefix(keys) is not None:
        return 'mit'
    if lite_names.has_lite_names(keys):
        return 'lite'
    if 'conv1.0.weight' in keys and 'layer1.0.conv2.fc1.weight' in keys:
        return 'resnest'
    if has_body(''):
        mend = ' It needs no conversion: MMSegmentation has the same names for a ResNet; give the file itself.'
    elif any(key.endswith(('stem.0.weight', 'cam_head.conv.weight')) for key in keys):
        mend = ' These are our own names already: give the file itself.'
    elif any(key.startswith(('fc_edge', 'edge_layers')) for key in keys):
        mend = ' This is an affinity network; its classifier is in another file.'
    elif 'classifier.weight' in keys:
        has_decoder = any(key.startswith(('aspp.', 'decoder.')) for key in keys)
        if not has_decoder and (has_body('model.') or 'stage2.0.0.conv1.weight' in keys):
            return 'puzzle-cam'
        if has_body('backbone.'):
            if not has_decoder:
                return 'p-noc'
            if {'aspp.conv1.weight', 'project.0.weight', 'decoder.8.weight'} <= keys:
                return 'csrm'
    raise UserError(
        f'The checkpoint is of no known kind ({", ".join(KINDS)}).{mend} Its first keys: '
        f'{", ".join(list(state_dict)[:8])}.'
    )


def convert(
    state_dict: Mapping[str, Tensor], kind: str = 'auto', depth: int | None = None, heads: bool = True
) -> Conversion:
    """Map a published checkpoint to our key names.

    The published CSRM decoder has dense 3x3 convolutions where the host's ``DepthwiseSeparableASPPHead`` has
    depthwise separable ones: those are dropped. What corresponds is mapped; the 1x1 convolution behind the ASPP
    becomes the centre of the host's 3x3 one, its input channels in the host's order, which computes the same. The
    published representation branch shares the ASPP of the decoder, ours has its own: it gets a copy.

    Args:
        state_dict (dict[str, Tensor]): As from :func:`~csrm_plugin.models.checkpoints.io.unwrap_state_dict`.
        kind (str): One of :data:`KINDS`, or `auto`, or `keep` for names that are ours already.
        depth (int, optional): Layers that the backbone must have.
        heads (bool): Whether to map decoder and representation branch; backbone and classifier always are.

    Returns:
        Conversion: The new state dict, and what became of each key.

    Raises:
        UserError: If the kind is unknown or not that of the keys, or the backbone is not of that depth.
    """
    if kind == 'auto':
        kind = detect_kind(state_dict)
    if kind == 'keep':
        return Conversion(
            kind, state_dict=dict(state_dict), mapped={key: key for key in state_dict}, family='names kept'
        )
    if kind not in KINDS:
        raise UserError(f'`kind` must be auto, keep or one of {", ".join(KINDS)}, but got {kind!r}.')
    if kind == 'mit':
        return _convert_mit(state_dict, depth)
    if kind == 'lite':
        return _convert_lite(state_dict, depth)
    result = Conversion(kind)
    source = _merge_stages(state_dict, result) if kind == 'puzzle-cam' else state_dict
    prefix = KINDS[kind]
    body = {key[len(prefix) :] for key in source if key.startswith(prefix)}
    if 'layer1.0.conv1.weight' not in body or (kind != 'resnest' and 'classifier.weight' not in source):
        raise UserError(
            f'The checkpoint is not of kind {kind}. Its first keys: {", ".join(list(state_dict)[:8])}. '
            f'Kinds: {", ".join(KINDS)}.'
        )
    result.family = 'ResNeSt' if 'layer1.0.conv2.fc1.weight' in body else 'ResNet'
    result.depth = DEPTHS.get(_count_blocks(body))
    if depth is not None and result.depth != depth:
        raise UserError(
            f'The backbone has {_count_blocks(body)} blocks (depth {result.depth}), but depth {depth} was asked for.'
        )
    if kind == 'csrm':
        result.norm = 'bn' if 'project.1.running_mean' in source else 'gn'
    for key, tensor in source.items():
        targets = _to_ours(key, kind, 'conv1.0.weight' in body)
        if heads and kind == 'csrm':
            targets += _to_heads(key, result.norm, 'representation.3.weight' in source)
        if not targets:
            result.dropped[key] = _why_dropped(key, heads)
        if key == 'aspp.conv1.weight':
            tensor = _pool_first(_embed_1x1(tensor))
        for target in targets:
            result.state_dict[target] = tensor
            result.mapped[target] = key
    if kind != 'resnest':
        result.num_classes = source['classifier.weight'].shape[0]
    return result


def to_original(state_dict: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Map our key names back to published ones; the other direction of :func:`convert`.

    Args:
        state_dict (dict[str, Tensor]): Our key names.
        kind (str): One of :data:`KINDS`, but `mit` and `lite`.

    Returns:
        dict[str, Tensor]: Published key names; keys without a counterpart are left out. What the published CSRM
        shares between decoder and representation branch comes from our decode head.
    """
    prefix, original = KINDS[kind], {}
    for key, tensor in state_dict.items():
        body = key if kind == 'resnest' else key.removeprefix('backbone.') if key.startswith('backbone.') else ''
        body = re.sub(r'^stem\.', 'conv1.', re.sub(r'^stem\.7\.', 'bn1.', body))
        if kind != 'resnest' and key.startswith('cam_head.conv.'):
            original[key.replace('cam_head.conv.', 'classifier.', 1)] = tensor
        elif re.match(_BODY, body):
            original[prefix + body] = tensor
            if kind == 'puzzle-cam':
                second, first = next(names for names in _STAGES if (prefix + body).startswith(names[1]))
                original[(prefix + body).replace(first, second, 1)] = tensor
        elif kind == 'csrm':
            original.update(_from_head(key, tensor))
    return original


def _convert_mit(state_dict, depth):
    """:func:`convert` for a transformer."""
    prefix = mit_names.find_prefix(state_dict)
    if prefix is None or depth is not None:
        why = 'A MiT has no depth to ask for.' if depth is not None else 'The checkpoint is not of kind mit.'
        raise UserError(f'{why} Its first keys: {", ".join(list(state_dict)[:8])}. Kinds: {", ".join(KINDS)}.')
    return Conversion('mit', *mit_names.rename(state_dict, prefix), family='MiT')


def _convert_lite(state_dict, depth):
    """:func:`convert` for an EfficientNet-Lite."""
    if not lite_names.has_lite_names(state_dict) or depth is not None:
        why = 'An EfficientNet-Lite has no depth to ask for.' if depth is not None else 'It is not of kind lite.'
        raise UserError(f'{why} Its first keys: {", ".join(list(state_dict)[:8])}. Kinds: {", ".join(KINDS)}.')
    result = Conversion('lite', *lite_names.rename(state_dict), family='EfficientNet-Lite')
    if 'classifier.weight' in result.state_dict:
        result.num_classes = result.state_dict['classifier.weight'].shape[0]
    return result


def _from_head(key, tensor):
    """The published key of a tensor in one of our heads, with the tensor, as a dict; empty if there is none."""
    for head, names in _HEADS.items():
        for source, target in names.items():
            match = re.match(re.escape(head + target).replace(r'\{norm\}', '(?:bn|gn)'), key)
            if match and (head == 'decode_head.' or source not in _SHARED):
                if source == 'aspp.conv1.':
                    tensor = _pool_last(tensor)[:, :, 1:2, 1:2].contiguous()
                return {source + key[match.end() :]: tensor}
    return {}


def _to_ours(key, kind, deep_stem):
    """Our name of a tensor of the published backbone or classifier, in a list; empty if it is neither."""
    if kind != 'resnest' and key.startswith('classifier.'):
        return [key.replace('classifier.', 'cam_head.conv.', 1)]
    body = key.removeprefix(KINDS[kind]) if key.startswith(KINDS[kind]) else ''
    if not re.match(_BODY, body):
        return []
    if deep_stem:
        body = re.sub(r'^conv1\.', 'stem.', re.sub(r'^bn1\.', 'stem.7.', body))
    return [body if kind == 'resnest' else f'backbone.{body}']


def _to_heads(key, norm, represent):
    """Our names of a tensor of the published CSRM decoder or representation branch."""
    return [
        head + target.format(norm=norm) + key[len(source) :]
        for head, names in _HEADS.items()
        for source, target in names.items()
        if key.startswith(source) and (represent or head == 'decode_head.')
    ]


def _why_dropped(key, heads):
    for pattern, reason in _DROPPED:
        if re.match(pattern, key):
            return reason
    if not heads and re.match(r'(aspp|project|decoder|representation)\.', key):
        return 'decoder and representation branch were not asked for'
    return 'unknown'


def _count_blocks(body):
    """Blocks in each of the four stages."""
    found = {tuple(map(int, m.groups())) for m in (re.match(r'layer(\d)\.(\d+)\.conv1\.weight', k) for k in body) if m}
    return tuple(sum(stage == wanted for stage, _ in found) for wanted in (1, 2, 3, 4))


def _twin_name(key):
    """Puzzle-CAM saves its backbone twice: the name in ``model.*`` of a tensor in ``stage1.*`` to ``stage5.*``."""
    for theirs, ours in _STAGES:
        if key.startswith(theirs):
            return ours + key[len(theirs) :]
    return None


def _merge_stages(state_dict, result):
    """Keep one copy of Puzzle-CAM's backbone, as ``model.*``, and note the other in ``result.dropped``."""
    merged = {}
    for key, tensor in state_dict.items():
        twin = _twin_name(key)
        if twin in state_dict:
            if not torch.equal(state_dict[twin], tensor):
                raise UserError(f'The checkpoint is damaged: {key} and {twin} should be the same tensor.')
            result.dropped[key] = 'second copy of model.*'
        else:
            merged[twin or key] = tensor
    return merged


def _embed_1x1(weight):
    """The 3x3 kernel (with padding 1) that computes the same as the 1x1 kernel ``weight`` (O, I, 1, 1)."""
    return torch.nn.functional.pad(weight, (1, 1, 1, 1))


def _pool_first(weight):
    """Reorder the inputs (five branches) of the layer behind the ASPP: the host has the pooled one first, CSRM last."""
    return weight.roll(weight.shape[1] // 5, dims=1)


def _pool_last(weight):
    return weight.roll(-(weight.shape[1] // 5), dims=1)
