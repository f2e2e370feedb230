"""Pictures at several scales, as a test pipeline gives them."""

from collections.abc import Sequence

from mmcv.transforms import Compose
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Dataset

from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.processes import die_with_parent


def view_pipeline(test_pipeline: Sequence[dict], scales: Sequence[float]) -> list[dict]:
    """Turn a test pipeline into one that reads a picture once and gives it at several scales.

    Args:
        test_pipeline (list[dict]): As in a config. Its ``Resize`` is what scale 1 means; without one, scale 1 is the
            picture's own size. Loading of annotations is dropped.
        scales (Sequence[float]): Factors.

    Returns:
        list[dict]: A pipeline whose result holds a list of ``inputs`` and a list of ``data_samples``.
    """
    steps = [dict(step) for step in test_pipeline if 'Annotations' not in step['type']]
    resizes = [index for index, step in enumerate(steps) if step['type'].endswith('Resize')]
    at = resizes[0] if resizes else 1
    base = steps[at] if resizes else None
    views = [_scaled(base, scale) for scale in scales]
    rest = steps[at + 1 :] if resizes else steps[at:]
    # TestTimeAug takes a list of alternatives for each step.
    return [*steps[:at], dict(type='TestTimeAug', transforms=[views, *([step] for step in rest)])]


def _scaled(base, scale):
    """A ``Resize`` at ``scale`` times the size of ``base``, or of the picture where that is None."""
    if base is None:
        return dict(type='Resize', scale_factor=float(scale), keep_ratio=True)
    if base.get('scale') is None:
        factor = base.get('scale_factor', 1.0)
        return {**base, 'scale_factor': float(scale) * factor}
    sides = base['scale'] if isinstance(base['scale'], (list, tuple)) else (base['scale'],) * 2
    return {**base, 'scale': tuple(int(scale * side) for side in sides)}


class Views(Dataset):
    """Pictures at several scales.

    Args:
        infos (list[dict]): Data infos with ``img_path`` and whatever the pipeline packs.
        pipeline (list[dict]): From :func:`view_pipeline`.
    """

    def __init__(self, infos: Sequence[dict], pipeline: list[dict]) -> None:
        self.infos = infos
        self.pipeline = Compose(pipeline)

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> dict:
        """The dict of views of a picture; ``UserError`` naming the file if it cannot be read."""
        info = self.infos[index]
        try:
            return self.pipeline(dict(info))
        except FileNotFoundError as error:
            raise MissingFileError(f'picture `{info["img_path"]}` does not exist') from error
        except Exception as error:
            raise UserError(
                f'picture `{info["img_path"]}` cannot be read ({type(error).__name__}: {error}); it is truncated or '
                'no picture'
            ) from error


def view_loader(infos: Sequence[dict], pipeline: list[dict], workers: int = 2) -> DataLoader:
    """Loader of :class:`Views`, one picture at a time, in order."""
    return DataLoader(
        Views(infos, pipeline), batch_size=1, num_workers=workers, collate_fn=_only, worker_init_fn=_prepare_loader
    )


def _prepare_loader(_):
    """Leave no loader behind when its parent is killed."""
    die_with_parent()


def _only(batch):
    """The only item of a batch, as the data preprocessor takes it: every value a list of views."""
    return {key: [value[0] for value in values] for key, values in pseudo_collate(batch).items()}
