from .load_optional_annotations import LoadOptionalAnnotations
from .load_pseudo_labels import LoadPseudoLabels
from .pack_wsss_inputs import PackWSSSInputs

__all__ = ['LoadOptionalAnnotations', 'LoadPseudoLabels', 'PackWSSSInputs']
