import torch
from mmengine.structures import LabelData, PixelData
from mmseg.structures import SegDataSample
from torch import nn

from csrm_plugin.models.segmentors import WSSSTTAModel


class Segmentor(nn.Identity):
    def test_step(self, data):
        raise AssertionError('merging runs no model')


def view(cam, score, logits=None):
    sample = SegDataSample()
    sample.set_field(PixelData(data=cam), 'cam_logits', dtype=PixelData)
    sample.set_field(LabelData(scores=torch.tensor([score])), 'pred_image_labels', dtype=LabelData)
    if logits is not None:
        sample.seg_logits = PixelData(data=logits)
    return sample


def merge(*views):
    return WSSSTTAModel(module=Segmentor()).merge_preds([list(views)])[0]


def test_cams_are_averaged_before_relu_and_scores_as_they_are():
    merged = merge(view(torch.tensor([[[4.0, -3.0]]]), 0.2), view(torch.tensor([[[0.0, 1.0]]]), 0.6))
    assert merged.cam_logits.data.tolist() == [[[2.0, -1.0]]]
    torch.testing.assert_close(merged.pred_image_labels.scores, torch.tensor([0.4]))
    assert 'seg_logits' not in merged


def test_segmentation_is_averaged_as_probabilities():
    # One view is certain of class 1 (0.9), the other leans to class 0 (0.6): averages 0.35 and 0.65.
    probs = torch.tensor([[0.1, 0.9], [0.6, 0.4]])
    views = [view(torch.zeros(1, 1, 1), 0.5, row.log()[:, None, None]) for row in probs]
    merged = merge(*views)
    torch.testing.assert_close(merged.seg_logits.data.softmax(dim=0).flatten(), torch.tensor([0.35, 0.65]))
    assert merged.pred_sem_seg.data.tolist() == [[[1]]]
