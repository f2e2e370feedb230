"""A folder in VOC layout of which only the image-level labels are used for training."""

import logging
import os.path as osp
from collections.abc import Sequence

import mmengine.fileio as fileio
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from csrm_plugin.datasets import label_folder, voc_layout
from csrm_plugin.utils import MissingFileError, UserError


@DATASETS.register_module()
class ImageLabelDataset(BaseSegDataset):
    """Pictures with image-level labels, in VOC layout, with any number of classes.

    Labels come from ``label_file``, else ``image_labels_<split>.json`` by the name of the list ``ann_file``, else
    ``image_labels.json``, so that changing ``ann_file`` alone changes the split. Without class names in ``metainfo``
    they are those of the label file, background first.

    A data info has ``img_path``, ``img_id`` (str), ``image_labels`` (float32 (C,), 0 or 1, without background),
    ``label_map``, ``reduce_zero_label``, ``seg_fields``, and ``seg_map_path`` only where masks may be read or
    ``pseudo_label_dir`` is set; then also ``num_classes``, K of the label maps.

    Args:
        ann_file (str): Split list, one id per line. All pictures of the folder where empty.
        data_root (str): Folder in VOC layout.
        label_file (str, optional): Label file, relative to ``data_root`` or to the working directory.
        data_prefix (dict): Sub-folders of the pictures and the masks.
        with_masks (bool, optional): Whether data infos name a mask. Default (None): never in training; in test mode
            yes, unless the split has no mask at all (such as VOC test). Where True, each picture must have one.
        with_labels (bool, optional): Whether there must be labels. Default (None): yes, except in test mode for a
            split that has no masks either: it can only be predicted. Where False, no label file is looked for.
        pseudo_label_dir (str, optional): Folder of label maps ``<id>.png``, relative to the working directory, that
            take the place of the masks, in training too, for :class:`LoadPseudoLabels`. The methods that learn from
            image-level labels never set it.
        **kwargs: Passed on to :class:`mmseg.datasets.BaseSegDataset`: ``metainfo``, ``pipeline``, ``test_mode``,
            ``img_suffix``, ``indices`` and so on.

    Raises:
        MissingFileError: A folder, split list, label file, picture, mask or label map is missing.
        UserError: The split is empty, ids have no label, or the classes are not those of the label file or of the
            folder of label maps.
    """

    #: Environment variable that the configs read the data root from; for error messages.
    ROOT_VARIABLE = None
    #: What `prepare_data` makes the labels of this data set from; for error messages.
    LABEL_SOURCE = 'masks'

    def __init__(
        self,
        ann_file: str = '',
        data_root: str = '',
        label_file: str | None = None,
        data_prefix: dict | None = None,
        with_masks: bool | None = None,
        with_labels: bool | None = None,
        pseudo_label_dir: str | None = None,
        metainfo: dict | None = None,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        data_root = data_root or ''
        data_prefix = {'img_path': 'JPEGImages', 'seg_map_path': 'SegmentationClass', **(data_prefix or {})}
        self.label_file = label_file
        self.with_masks = with_masks
        self.with_labels = with_labels
        self.pseudo_label_dir = pseudo_label_dir
        if 'classes' not in self.METAINFO and 'classes' not in (metainfo or {}):
            metainfo = dict(metainfo or {}, classes=self._classes_of_label_file(data_root, ann_file, backend_args))
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            metainfo=metainfo,
            backend_args=backend_args,
            **kwargs,
        )

    def _classes_of_label_file(self, data_root: str, ann_file: str, backend_args: dict | None) -> tuple[str, ...]:
        """Class names for a data set whose config names none: background and those of the label file."""
        self._check_root(data_root, backend_args)
        split = voc_layout.split_name(ann_file)
        path = voc_layout.find_label_file(data_root, split, self.label_file, backend_args)
        if path is None:
            raise MissingFileError(
                f'The classes of {data_root} are unknown: neither `metainfo.classes` is set nor is there a label file. '
                + voc_layout.prepare_hint(data_root, split, self.LABEL_SOURCE)
            )
        classes, _ = voc_layout.read_image_labels(path, backend_args)
        return (voc_layout.BACKGROUND, *classes)

    def _update_palette(self) -> list:
        """Colours of the VOC map where the data set has none of its own; the host would draw random ones."""
        if not self._metainfo.get('palette'):
            return voc_layout.voc_palette(len(self._metainfo['classes']))
        return super()._update_palette()

    def _check_root(self, data_root: str, backend_args: dict | None) -> None:
        if data_root and not fileio.exists(data_root, backend_args=backend_args):
            variable = f' or the environment variable {self.ROOT_VARIABLE}' if self.ROOT_VARIABLE else ''
            raise MissingFileError(
                f'Data root {data_root} does not exist: set `data_root`{variable} to the folder that '
                'holds JPEGImages and ImageSets.'
            )

    def load_data_list(self) -> list[dict]:
        """Read the split, its labels and the listing of the folders.

        Returns:
            list[dict]: One data info per picture, see the class.
        """
        self._check_root(self.data_root, self.backend_args)
        ids = self._read_ids()
        label_maps = self._find_label_maps(ids) if self.pseudo_label_dir else None
        with_masks = label_maps is None and self._find_masks(ids)
        labels = self._read_labels(ids, with_masks or label_maps is not None)
        data_list = []
        for image_id in ids:
            data_info = dict(
                img_path=osp.join(self.data_prefix['img_path'], image_id + self.img_suffix),
                img_id=image_id,
                label_map=self.label_map,
                reduce_zero_label=self.reduce_zero_label,
                seg_fields=[],
            )
            if label_maps is not None:
                data_info.update(seg_map_path=osp.join(self.pseudo_label_dir, f'{image_id}.png'), **label_maps)
            elif with_masks:
                data_info['seg_map_path'] = osp.join(self.data_prefix['seg_map_path'], image_id + self.seg_map_suffix)
            if labels is not None:
                data_info['image_labels'] = voc_layout.multi_hot(labels[image_id], self.image_classes)
            data_list.append(data_info)
        if labels is not None:
            empty = sum(not data_info['image_labels'].any() for data_info in data_list)
            if empty:
                print_log(
                    f'{empty} of {len(ids)} pictures in {self.ann_file or self.data_root} have no label: they '
                    'count as all background.',
                    logger='current',
                )
        return data_list

    @property
    def image_classes(self) -> tuple[str, ...]:
        """tuple[str]: The C image classes: all but the background."""
        return tuple(self._metainfo['classes'][1:])

    def get_cat_ids(self, idx: int) -> list[int]:
        """Indices of the picture's image classes, from 0 for the first after the background.

        Args:
            idx (int): Index of the picture.

        Returns:
            list[int]: Ascending indices below C.
        """
        return self.get_data_info(idx)['image_labels'].nonzero()[0].tolist()

    def _read_ids(self) -> list[str]:
        folder = self.data_prefix['img_path']
        if not self.ann_file:
            ids = sorted(voc_layout.list_names(folder, self.img_suffix, self.backend_args))
            if not ids:
                raise MissingFileError(
                    f'No *{self.img_suffix} in {folder}: check `data_root`, `data_prefix.img_path` and `img_suffix`.'
                )
            return ids
        ids = voc_layout.read_split(self.ann_file, self.backend_args)
        missing = voc_layout.missing_files(folder, ids, self.img_suffix, self.backend_args)
        if missing:
            raise MissingFileError(
                f'{len(missing)} of {len(ids)} pictures of {self.ann_file} are not in {folder}, for example '
                f'{missing[0]}{self.img_suffix}. Check `data_root`, `data_prefix.img_path` and `img_suffix`; '
                'the list holds names without folder and suffix.'
            )
        return ids

    def _find_masks(self, ids: Sequence[str]) -> bool:
        """Whether the data infos name masks; looks at the folder only where they may be read."""
        if self.with_masks is False or (self.with_masks is None and not self.test_mode):
            return False
        folder = self.data_prefix['seg_map_path']
        missing = voc_layout.missing_files(folder, ids, self.seg_map_suffix, self.backend_args)
        if not missing:
            return True
        if len(missing) == len(ids) and self.with_masks is None:
            print_log(
                f'{self.ann_file} has no masks in {folder}: it can be predicted but not scored.', logger='current'
            )
            return False
        raise MissingFileError(
            f'{len(missing)} of {len(ids)} masks of {self.ann_file} are not in {folder}, for example '
            f'{missing[0]}{self.seg_map_suffix}. Add them, or set `with_masks=False` to predict only.'
        )

    def _find_label_maps(self, ids: Sequence[str]) -> dict:
        """Check ``pseudo_label_dir`` before training starts, and say whose labels it holds.

        Returns:
            dict: What all data infos get: ``num_classes`` (int) and ``label_map`` (dict | None) of the label maps.
        """
        folder = self.pseudo_label_dir
        split = f' --split {voc_layout.split_name(self.ann_file)}' if self.ann_file else ''
        label_folder.require_files(
            folder,
            ids,
            'label maps',
            hint=f'Make them with `python tools/pseudo_labels.py CONFIG CHECKPOINT --out {folder}{split}`, or set '
            '`train_dataloader.dataset.pseudo_label_dir` (default: $PSEUDO_LABELS) to the folder that holds them.',
        )
        masks = self.data_prefix['seg_map_path']
        own_masks = osp.realpath(folder) == osp.realpath(masks)
        # Masks have the indices of all classes; labels that a model made have those of the classes that it was given.
        classes = self._metainfo['classes'] if self.label_map is None or not own_masks else self.METAINFO['classes']
        self._check_manifest(folder, classes)
        if own_masks and not self.test_mode:
            print_log(
                f'fully supervised: training reads the true masks of {masks}', logger='current', level=logging.WARNING
            )
        else:
            print_log(f'Label maps of {self.ann_file or self.data_root} are those of {folder}.', logger='current')
        return dict(num_classes=len(classes), label_map=self.label_map if own_masks else None)

    @staticmethod
    def _check_manifest(folder: str, classes: Sequence[str]) -> None:
        """Label maps hold indices, so where the folder says its classes, names and order must agree."""
        found = (label_folder.read_manifest(folder) or {}).get('classes')
        if found is None or list(found) == list(classes):
            return
        raise UserError(
            f'The label maps of {folder} have the classes {", ".join(map(str, found))}, but the data set has '
            f'{", ".join(classes)}. Set `pseudo_label_dir` to labels that were made for this data set.'
        )

    def _read_labels(self, ids: Sequence[str], with_masks: bool) -> dict[str, list[str]] | None:
        """Names per id, or None for a split that is only predicted."""
        if self.with_labels is False:
            return None
        split = voc_layout.split_name(self.ann_file)
        may_lack = self.with_labels is None and self.test_mode and not with_masks
        path = voc_layout.find_label_file(self.data_root, split, self.label_file, self.backend_args)
        if path is None:
            if may_lack:
                return None
            raise MissingFileError(
                f'No image-level labels for the split {split!r}: there is neither image_labels_{split}.json nor '
                f'image_labels.json in {self.data_root}, and `label_file` is not set. '
                + voc_layout.prepare_hint(self.data_root, split, self.LABEL_SOURCE)
            )
        classes, labels = voc_layout.read_image_labels(path, self.backend_args)
        self._check_classes(path, classes)
        missing = [image_id for image_id in ids if image_id not in labels]
        if not missing:
            return labels
        if may_lack and len(missing) == len(ids):
            return None
        raise UserError(
            f'{len(missing)} of {len(ids)} ids of {self.ann_file} have no entry in {path}, for example '
            f'{missing[0]}. ' + voc_layout.prepare_hint(self.data_root, split, self.LABEL_SOURCE)
        )

    def _check_classes(self, path: str, file_classes: Sequence[str]) -> None:
        """Labels go by name, so the names must agree; their order in the file does not matter."""
        own = self.METAINFO.get('classes', self._metainfo['classes'])
        if set(own[1:]) == set(file_classes):
            return
        only_own, only_file = set(own[1:]) - set(file_classes), set(file_classes) - set(own[1:])
        parts = []
        if only_own:
            parts.append(f'the data set alone has {voc_layout.shorten(sorted(only_own))}')
        if only_file:
            parts.append(f'the file alone has {voc_layout.shorten(sorted(only_file))}')
        hint = ' The first name of `metainfo.classes` is the background.' if own[0] in file_classes else ''
        raise UserError(f'The classes of {path} are not those of {type(self).__name__}: {"; ".join(parts)}.{hint}')
