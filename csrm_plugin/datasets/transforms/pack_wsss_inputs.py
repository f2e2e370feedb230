"""Last step of the pipelines: from the results dict to what the segmentors take."""

from collections.abc import Sequence

import torch
from mmengine.structures import LabelData
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackWSSSInputs(PackSegInputs):
    """Pack picture, image-level labels and, where it was loaded, the mask.

    To what :class:`mmseg.datasets.transforms.PackSegInputs` packs it adds ``data_samples.gt_image_labels``, a
    :class:`mmengine.structures.LabelData` with ``multi_hot`` (float32 tensor (C,), 0 or 1), from the results'
    ``image_labels``; without them (a picture that is only predicted) the field is left out.

    Args:
        meta_keys (Sequence[str]): Keys of the results that become metainfo of the data sample where they exist.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'img_path',
            'img_id',
            'ori_shape',
            'img_shape',
            'pad_shape',
            'scale_factor',
            'flip',
            'flip_direction',
            'reduce_zero_label',
        ),
    ) -> None:
        super().__init__(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack one picture.

        Args:
            results (dict): Results of the pipeline so far.

        Returns:
            dict: ``inputs`` (uint8 tensor (3, H, W), BGR as loaded) and ``data_samples``.
        """
        packed = super().transform(results)
        if 'image_labels' in results:
            labels = torch.as_tensor(results['image_labels'], dtype=torch.float32).clone()
            packed['data_samples'].set_field(LabelData(multi_hot=labels), 'gt_image_labels', dtype=LabelData)
        return packed
