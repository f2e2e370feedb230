"""Loading label maps to train on, with every check that keeps a wrong one from being learnt."""

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

from csrm_plugin.datasets import label_folder
from csrm_plugin.utils import UserError


@TRANSFORMS.register_module()
class LoadPseudoLabels(LoadAnnotations):
    """Load the label map of a picture from the data set's ``pseudo_label_dir``.

    Comes directly after ``LoadImageFromFile``, so that later steps scale, crop and flip picture and labels alike.
    """

    def __init__(self) -> None:
        super().__init__()

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` (uint8 (H, W), 0..K-1, 255 ignored) from the file ``seg_map_path``.

        Args:
            results (dict): With ``seg_map_path``, ``num_classes`` and ``label_map`` as
                :class:`csrm_plugin.datasets.ImageLabelDataset` gives them, and a loaded picture.

        Raises:
            UserError: If there is no label map, it is broken, of another size than the picture, or holds a class
                that does not exist. One line: it comes from a process of the data loader.
        """
        if 'num_classes' not in results or 'seg_map_path' not in results:
            raise UserError(
                'LoadPseudoLabels finds no labels: set `train_dataloader.dataset.pseudo_label_dir` to the folder of '
                'label maps'
            )
        if results.get('img_shape') != results.get('ori_shape'):
            raise UserError('LoadPseudoLabels must come before the steps that change the size of the picture')
        return super().transform(results)

    def _load_seg_map(self, results: dict) -> None:
        labels = label_folder.read_label_png(
            results['seg_map_path'], num_classes=results['num_classes'], size=results['ori_shape'][:2]
        )
        if results.get('label_map'):
            new_index = np.arange(256, dtype=np.uint8)
            for old, new in results['label_map'].items():
                new_index[old] = new
            labels = new_index[labels]
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
