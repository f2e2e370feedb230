"""What decides on the masks."""

from dataclasses import dataclass

from csrm_plugin.utils import UserError

#: Instead of a checkpoint: proposals that need no network.
SUPERPIXELS = 'superpixels'


@dataclass(frozen=True)
class SamSettings:
    """What decides on the masks of a Segment Anything model.

    Attributes:
        points_per_side (int): The prompts are this many points squared, on each crop.
        pred_iou_thresh (float): 0..1; masks that the model rates at most that are dropped. 0 drops none.
        stability_score_thresh (float): 0..1; masks that change more with the cut-off are dropped. 0 drops none.
        crop_layers (int): 0 sees the whole picture alone; layer i sees it in 4^i crops as well.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    crop_layers: int = 0

    def __post_init__(self) -> None:
        for name, smallest in (('points_per_side', 1), ('crop_layers', 0)):
            if getattr(self, name) < smallest:
                raise UserError(f'{option(name)} must be at least {smallest}, but is {getattr(self, name)}')
        for name in ('pred_iou_thresh', 'stability_score_thresh'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{option(name)} must be from 0 to 1, but is {getattr(self, name)}')


def option(name: str) -> str:
    """The argument of `tools/sam_masks.py` that sets a field of :class:`SamSettings`."""
    return '--' + name.replace('_', '-')
