"""How predictions become label maps, and where what is not given comes from."""

import inspect
from dataclasses import asdict, dataclass

from mmengine.config import Config

from csrm_plugin.functional import check_thresholds
from csrm_plugin.inference.pseudo_labels.choice import chosen_threshold
from csrm_plugin.models.segmentors.label_recipe import recipe_of_config
from csrm_plugin.refine import DenseCRF
from csrm_plugin.utils import UserError
from csrm_plugin.utils.label_sources import CAM_SOURCES, SOURCES

#: Which classes a picture may get.
RESTRICTIONS = ('labels', 'classifier', 'none')
#: What dCRF begins with: the label map, or the probabilities that it was made from.
UNARIES = ('labels', 'probs')


@dataclass(frozen=True)
class LabelSettings:
    """How predictions become label maps.

    Attributes:
        source (str): ``'cam'``, ``'propagated'`` (CAMs that the model has propagated) or ``'seg'``. What is said of
            CAMs below goes for both kinds.
        scales (tuple[float, ...]): Factors of the size that the config tests at.
        flip (bool): Whether each scale is also seen mirrored.
        threshold (float | None): In 0..1. For CAMs the score of the background. For the segmentation, which has a
            background of its own, pixels whose highest probability is below become 255; None leaves all certain.
        bg_threshold (float | None): For CAMs: pixels that are foreground at this lower threshold only become 255
            (Eq. 6 of CSRM). None leaves all certain.
        crf (dict | None): Arguments of :class:`csrm_plugin.refine.DenseCRF`, and ``unary``: ``'labels'`` refines hard
            labels with its ``label_confidence``, ``'probs'`` the probabilities of a segmentation. Where that is not
            given, it is labels, so that labels of all sources are refined alike; and, as usual, probabilities for the
            predictions of a segmentation that are not restricted. None: no dCRF.
        restrict (str): ``'labels'``: a picture gets only classes of its image-level label; ``'classifier'`` (CAMs):
            only classes whose score is above ``score_threshold``; ``'none'`` (segmentation): any class.
        score_threshold (float): In 0..1, for ``'classifier'``.
        threshold_chosen_on (str | None): Name of the split whose masks ``threshold`` was chosen with; None for one
            that was fixed beforehand.
    """

    source: str
    scales: tuple = (1.0,)
    flip: bool = False
    threshold: float | None = None
    bg_threshold: float | None = None
    crf: dict | None = None
    restrict: str = 'labels'
    score_threshold: float = 0.5
    threshold_chosen_on: str | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UserError(f'--source must be one of {", ".join(map(repr, SOURCES))}, but is {self.source!r}')
        if self.restrict not in RESTRICTIONS:
            raise UserError(f'`restrict` must be one of {", ".join(RESTRICTIONS)}, but is {self.restrict!r}')
        if not self.scales or any(not 0 < scale <= 8 for scale in self.scales):
            raise UserError(f'--scales must be factors above 0 and at most 8, but are {list(self.scales)}')
        for name in ('threshold', 'bg_threshold', 'score_threshold'):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f'--{name.replace("_", "-")} must be in 0..1, but is {value}')
        self._check_source()
        if self.crf is not None:
            object.__setattr__(self, 'crf', {**self.crf, 'unary': self._unary()})

    def _unary(self):
        unary = self.crf.get('unary') or ('probs' if self.restrict == 'none' else 'labels')
        if unary not in UNARIES:
            raise UserError(f'--crf-options unary= must be one of {", ".join(UNARIES)}, but is {unary!r}')
        if unary == 'probs' and self.source in CAM_SOURCES:
            raise UserError('--crf-options unary=probs is for --source seg: CAMs are no probabilities')
        return unary

    def _check_source(self):
        if self.source in CAM_SOURCES:
            if self.threshold is None:
                raise UserError('--threshold (0..1, the score of the background) is needed to turn CAMs into labels')
            if self.bg_threshold is not None:
                check_thresholds(self.threshold, self.bg_threshold)
            if self.restrict == 'none':
                raise UserError('CAMs need a set of classes: image-level labels, or those that the classifier sees')
        elif self.bg_threshold is not None:
            raise UserError('--bg-threshold is for CAMs; the segmentation has a background of its own')
        elif self.restrict == 'classifier':
            raise UserError("--source seg is restricted to the 'labels' or to nothing ('none')")


def settings_for(cfg: Config, given: dict) -> LabelSettings:
    """Complete the settings from the config: its ``model.test_cfg.pseudo_label`` names a source and a threshold.

    Args:
        cfg (mmengine.config.Config): Of the model.
        given (dict): Fields of :class:`LabelSettings` that are not None; also ``unrestricted`` (bool), and
            ``threshold_from`` (str): see :func:`csrm_plugin.inference.pseudo_labels.choice.chosen_threshold`.
    """
    own = recipe_of_config(cfg.model).as_dict()
    given = {key: value for key, value in given.items() if value is not None}
    source = given.get('source') or own['source']
    if 'threshold_from' in given:
        given |= chosen_threshold(given.pop('threshold_from'), source, given.get('threshold'))
    if source in CAM_SOURCES and own['source'] == source:
        given.setdefault('threshold', own['threshold'])
    if given.pop('unrestricted', False):
        given['restrict'] = 'classifier' if source in CAM_SOURCES else 'none'
    if 'crf' in given:
        unary = {key: value for key, value in given['crf'].items() if key == 'unary'}
        given['crf'] = crf_options({key: value for key, value in given['crf'].items() if key not in unary}) | unary
    return LabelSettings(**{**given, 'source': source, 'scales': tuple(given.get('scales', (1.0,)))})


def crf_options(given: dict) -> dict:
    """All settings of dCRF that decide on the result, the default where ``given`` has none.

    Raises:
        UserError: If ``given`` has a setting that :class:`csrm_plugin.refine.DenseCRF` does not know.
    """
    parameters = inspect.signature(DenseCRF).parameters
    known = {name: parameter.default for name, parameter in parameters.items() if name != 'workers'}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(f'--crf-options: `{unknown[0]}` is no setting of dCRF; known: {", ".join(known)}')
    return {**known, **given}


def describe_labels(settings: LabelSettings) -> dict:
    """How the labels are made from the predictions, for ``labels.json``."""
    values = asdict(settings)
    values['crf'] = False if settings.crf is None else settings.crf
    values['restricted'] = values.pop('restrict')
    if settings.restrict != 'classifier':
        del values['score_threshold']
    if settings.threshold_chosen_on is None:
        del values['threshold_chosen_on']
    return values
