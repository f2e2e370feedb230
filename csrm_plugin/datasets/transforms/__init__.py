from .load_optional_annotations import LoadOptionalAnnotations
from .pack_wsss_inputs import PackWSSSInputs

__all__ = ['LoadOptionalAnnotations', 'PackWSSSInputs']
