"""What the labels of a trained model are made from: the section ``model.test_cfg.pseudo_label``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mmseg.registry import MODELS

from csrm_plugin.utils import UserError
from csrm_plugin.utils.label_sources import CAM_SOURCES, SOURCES


@dataclass(frozen=True)
class LabelRecipe:
    """Source and threshold of the label maps that a trained model stands for.

    ``pseudo/mIoU`` scores them, and ``tools/pseudo_labels.py`` makes them, unless told otherwise.

    Attributes:
        source (str): ``'cam'``, ``'propagated'`` or ``'seg'``, see :data:`csrm_plugin.utils.label_sources.SOURCES`.
        threshold (float | None): Score of the background against the CAMs, in 0..1. None for ``'seg'``, where the
            background has a score of its own.
    """

    source: str = 'seg'
    threshold: float | None = None

    def __post_init__(self) -> None:
        setting = 'model.test_cfg.pseudo_label'
        if self.source not in SOURCES:
            raise UserError(f'`{setting}.source` must be one of {", ".join(SOURCES)}, but is {self.source!r}.')
        if self.source not in CAM_SOURCES:
            object.__setattr__(self, 'threshold', None)
        elif not isinstance(self.threshold, (int, float)) or not 0 <= self.threshold <= 1:
            raise UserError(
                f'`{setting}.threshold` must be in 0..1 for labels from the source {self.source}, but is '
                f'{self.threshold}.'
            )

    def as_dict(self) -> dict:
        """``source`` and ``threshold``, as scores and files state them."""
        return asdict(self)


def read_recipe(section: Mapping | None, default: LabelRecipe) -> LabelRecipe:
    """The recipe of a section ``pseudo_label``; of another source than the default's, its threshold is not taken over.

    Args:
        section (Mapping, optional): With ``source`` and ``threshold``, each of which may be missing.
        default (LabelRecipe): What is missing.

    Raises:
        UserError: If a key is unknown or a value out of range.
    """
    section = dict(section or {})
    unknown = sorted(set(section) - {'source', 'threshold'})
    if unknown:
        raise UserError(f'`model.test_cfg.pseudo_label` takes source and threshold, but has `{unknown[0]}`.')
    source = section.get('source', default.source)
    threshold = section.get('threshold', default.threshold if source == default.source else None)
    return LabelRecipe(source, threshold)


def recipe_of_config(model: Mapping) -> LabelRecipe:
    """The recipe of a model that is not built.

    Args:
        model (Mapping): ``model`` of a config. A plain segmentation network gives its segmentation.
    """
    found = MODELS.get(model['type']) if isinstance(model['type'], str) else model['type']
    section = (model.get('test_cfg') or {}).get('pseudo_label')
    if hasattr(found, 'label_recipe_of'):
        return found.label_recipe_of(model.get('test_cfg'))
    return read_recipe(section, LabelRecipe('seg'))
