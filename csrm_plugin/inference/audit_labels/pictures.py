"""The pictures of a split that have masks, as the config's test pipeline gives them."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmseg.datasets import BaseSegDataset
from torch.utils.data import DataLoader, Dataset

from csrm_plugin.datasets import voc_layout
from csrm_plugin.inference.pseudo_labels.make import split_dataset
from csrm_plugin.utils import UserError
from csrm_plugin.utils.processes import die_with_parent


class MaskedPictures(Dataset):
    """Pictures with image-level labels and masks.

    Args:
        infos (list[dict]): From :func:`pictures_with_masks`.
        pipeline (list[dict]): The test pipeline of a config, which loads masks.
    """

    def __init__(self, infos: Sequence[dict], pipeline: Sequence[dict]) -> None:
        self.infos = infos
        self.pipeline = Compose([dict(step) for step in pipeline])

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> dict:
        """``inputs`` and ``data_samples`` of a picture; ``UserError`` naming the file if it cannot be read."""
        info = self.infos[index]
        try:
            return self.pipeline(dict(info, seg_fields=[]))
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f'picture `{info["img_path"]}` or its mask `{info["seg_map_path"]}` cannot be read '
                f'({type(error).__name__}: {error}); one of them is truncated or no picture'
            ) from error


def find_pictures(cfg: Config, split: str | None, limit: int | None) -> tuple[BaseSegDataset, list[dict], int]:
    """The pictures to audit on.

    Args:
        cfg (mmengine.config.Config): With ``test_dataloader``.
        split (str, optional): Name of a list; that of the test by default.
        limit (int, optional): At most so many, evenly spread over the list: lists are often sorted by class.

    Returns:
        tuple[BaseSegDataset, list[dict], int]: The data set; data infos with ``image_labels`` and ``seg_map_path``;
        how many pictures the split has, with masks or without.

    Raises:
        UserError: If none has a mask, or labels or pictures are missing.
    """
    if cfg.get('test_dataloader') is None:
        raise UserError(f'config `{cfg.filename}` has no test_dataloader')
    if limit is not None and limit < 1:
        raise UserError(f'--limit must be at least 1 picture, but is {limit}')
    split = split or split_of(cfg)
    dataset = split_dataset(cfg, split, with_labels=True)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    folder, suffix = dataset.data_prefix['seg_map_path'], dataset.seg_map_suffix
    ids = [info['img_id'] for info in infos]
    missing = set(voc_layout.missing_files(folder, ids, suffix, dataset.backend_args))
    masked = [
        dict(info, seg_map_path=f'{folder.rstrip("/")}/{info["img_id"]}{suffix}')
        for info in infos
        if info['img_id'] not in missing
    ]
    if not masked:
        raise UserError(
            f'none of the {len(infos)} pictures of the split `{split}` has a mask in {folder}: labels are compared '
            f'with masks, so put masks of a handful of pictures there (<id>{suffix}, class indices, 255 not counted), '
            'or give a split that has some with --split'
        )
    if limit is not None and limit < len(masked):
        masked = [masked[index] for index in np.linspace(0, len(masked) - 1, limit).round().astype(int)]
    return dataset, masked, len(infos)


def split_of(cfg: Config) -> str:
    """Name of the list that the config tests on."""
    return voc_layout.split_name(cfg.test_dataloader.dataset.get('ann_file', ''))


def picture_loader(cfg: Config, infos: Sequence[dict]) -> DataLoader:
    """The pictures one at a time, in order: batches of ``inputs`` and ``data_samples`` for the data preprocessor."""
    workers = min(cfg.test_dataloader.get('num_workers', 0), len(infos))
    pictures = MaskedPictures(infos, cfg.test_dataloader.dataset.pipeline)
    return DataLoader(pictures, 1, num_workers=workers, collate_fn=pseudo_collate, worker_init_fn=_prepare_loader)


def _prepare_loader(_) -> None:
    """Leave no loader behind when its parent is killed."""
    die_with_parent()
