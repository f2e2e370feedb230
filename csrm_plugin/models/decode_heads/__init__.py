from .affinity_head import AffinityHead, AttentionAffinityHead
from .cam_head import CAMHead
from .context_head import ContextHead
from .deeplabv2_head import DeepLabV2Head
from .representation_head import RepresentationHead

__all__ = [
    'AffinityHead',
    'AttentionAffinityHead',
    'CAMHead',
    'ContextHead',
    'DeepLabV2Head',
    'RepresentationHead',
]
