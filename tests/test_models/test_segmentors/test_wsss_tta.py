import torch
from mmengine.config import ConfigDict
from mmengine.structures import LabelData, PixelData
from mmseg.structures import SegDataSample
from torch import nn

from csrm_plugin.models.segmentors import WSSSTTAModel

#: Stacks the pictures and leaves their values alone.
PREPROCESSOR = dict(type='SegDataPreProcessor', size=(32, 32))


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


def test_propagated_cams_are_averaged_as_they_are_and_affinities_left_out():
    views = [view(torch.zeros(1, 1, 2), 0.5) for _ in range(2)]
    for sample, row in zip(views, ([0.25, 1.0], [0.75, 0.5])):
        sample.set_field(PixelData(data=torch.tensor([[row]])), 'propagated_cam', dtype=PixelData)
        field = PixelData(data=torch.rand(1, 4, 4), metainfo=dict(grid=(2, 2)))
        sample.set_field(field, 'affinity', dtype=PixelData)
    assert 'affinity' in merge(views[0].clone())  # of a single view, it is that view's
    merged = merge(*views)
    assert merged.propagated_cam.data.tolist() == [[[0.5, 0.75]]] and 'affinity' not in merged


def test_a_model_without_cams_is_averaged_too():
    sample = SegDataSample()
    sample.seg_logits = PixelData(data=torch.tensor([[[0.0]], [[2.0]]]))
    merged = merge(sample)
    assert merged.pred_sem_seg.data.tolist() == [[[1]]] and 'cam_logits' not in merged
    assert 'pred_image_labels' not in merged


def test_views_of_a_plain_segmentation_network_are_turned_back(build, make_batch):
    network = build('EncoderDecoder', test_cfg=ConfigDict(mode='whole'), data_preprocessor=PREPROCESSOR).eval()
    batch = make_batch((32, 32))
    mirrored = make_batch((32, 32))
    mirrored['inputs'] = [batch['inputs'][0].flip(2)]
    for sample, flip in zip((batch['data_samples'][0], mirrored['data_samples'][0]), (False, True)):
        sample.set_metainfo(dict(flip=flip, flip_direction='horizontal' if flip else None))
    views = dict(
        inputs=[batch['inputs'], mirrored['inputs']],
        data_samples=[batch['data_samples'], mirrored['data_samples']],
    )
    (merged,) = WSSSTTAModel(module=network).test_step(views)
    with torch.no_grad():
        inputs = torch.stack(batch['inputs']).float()
        maps = [
            network.encode_decode(view, [dict(img_shape=(32, 32))]).softmax(dim=1) for view in (inputs, inputs.flip(3))
        ]
    expected = (maps[0] + maps[1].flip(3))[0] / 2
    torch.testing.assert_close(merged.seg_logits.data.softmax(dim=0), expected)
    assert torch.equal(merged.pred_sem_seg.data[0], expected.argmax(dim=0))
