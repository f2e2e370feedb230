"""Test-time augmentation."""

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample


@MODELS.register_module()
class WSSSTTAModel(BaseTTAModel):
    """Average what a segmentor predicts for several scales and flips of a picture.

    CAMs are averaged before Eq. 2 (ReLU, division by the maximum), segmentation as probabilities, propagated CAMs and
    class scores as they are; all at the picture's original size, with flips undone. What a model does not predict (a
    plain segmentation network has no CAMs) is left out, and so are affinities, which belong to a single view.
    """

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """One data sample for each picture.

        Args:
            data_samples_list (list[list[SegDataSample]]): For each picture its views, as the segmentor predicts them.

        Returns:
            list[SegDataSample]: The first view's sample with the averages in place of its predictions.
        """
        return [self._merge(views) for views in data_samples_list]

    @staticmethod
    def _merge(views: list[SegDataSample]) -> SegDataSample:
        sample = views[0]
        if 'cam_logits' in sample:
            sample.cam_logits = PixelData(data=torch.stack([view.cam_logits.data for view in views]).mean(dim=0))
        if 'propagated_cam' in sample:
            maps = torch.stack([view.propagated_cam.data for view in views])
            sample.propagated_cam = PixelData(data=maps.mean(dim=0))
        if 'affinity' in sample and len(views) > 1:
            del sample.affinity
        if 'pred_image_labels' in sample:
            scores = torch.stack([view.pred_image_labels.scores for view in views]).mean(dim=0)
            sample.pred_image_labels.scores = scores
        if 'seg_logits' in sample:
            probs = torch.stack([view.seg_logits.data.softmax(dim=0) for view in views]).mean(dim=0)
            # As logits, so that their softmax is the average again.
            sample.seg_logits = PixelData(data=probs.clamp(min=torch.finfo(probs.dtype).tiny).log())
            sample.pred_sem_seg = PixelData(data=probs.argmax(dim=0, keepdim=True))
        return sample
