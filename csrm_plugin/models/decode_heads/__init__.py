from .cam_head import CAMHead
from .deeplabv2_head import DeepLabV2Head
from .representation_head import RepresentationHead

__all__ = ['CAMHead', 'DeepLabV2Head', 'RepresentationHead']
