"""How a picture is segmented without a decoder."""

from dataclasses import dataclass

from csrm_plugin.models.segmentors.pseudo_labeler import check_scales
from csrm_plugin.utils import UserError


@dataclass
class PropagationSettings:
    """How CAMs of several views become a segmentation: ``model.test_cfg`` of a :class:`PropagatingSegmentor`.

    Attributes:
        scales (Sequence[float]): Sizes, relative to the input, whose CAMs are averaged.
        flip (bool): Whether each is also seen mirrored.
        threshold (float): Score of the background against the propagated CAMs, in 0..1.
        power (float): Exponent of the affinities.
        steps (int): How often the CAMs are propagated; 0 leaves them as they are.
        score_threshold (float): Classes whose score is not above it are not there, in 0..1.
        pseudo_label (dict | None): See :class:`LabelRecipe`; by default the propagated CAMs at ``threshold``.
    """

    scales: tuple = (0.5, 1.0, 1.5)
    flip: bool = True
    threshold: float = 0.35
    power: float = 2.0
    steps: int = 1
    score_threshold: float = 0.5
    pseudo_label: dict | None = None

    def __post_init__(self) -> None:
        check_scales('model.test_cfg.scales', self.scales)
        self.scales = tuple(self.scales)
        for name in ('threshold', 'score_threshold'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'`model.test_cfg.{name}` must be in 0..1, but is {getattr(self, name)}.')
        if not self.power >= 0:
            raise UserError(f'`model.test_cfg.power` must be at least 0, but is {self.power}.')
        if not isinstance(self.steps, int) or self.steps < 0:
            raise UserError(f'`model.test_cfg.steps` must be a whole number of at least 0, but is {self.steps}.')
