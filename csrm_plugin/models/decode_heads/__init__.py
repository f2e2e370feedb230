from .cam_head import CAMHead
from .representation_head import RepresentationHead

__all__ = ['CAMHead', 'RepresentationHead']
