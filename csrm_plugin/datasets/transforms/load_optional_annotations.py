"""Loading masks where there are some."""

from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadOptionalAnnotations(LoadAnnotations):
    """:class:`mmseg.datasets.transforms.LoadAnnotations` that passes pictures without a mask through.

    So one test pipeline serves splits with masks and those that can only be predicted, such as VOC test. Takes the
    arguments of the parent.
    """

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` (uint8 (H, W), 255 ignored) if the data set named a mask in ``seg_map_path``."""
        if results.get('seg_map_path') is None:
            return results
        return super().transform(results)
