import pytest
import torch
from mmseg.structures import SegDataSample

from csrm_plugin.models.segmentors import NonFiniteLossError
from csrm_plugin.utils import UserError


class TestParseLosses:
    def test_adds_what_is_called_loss(self, build):
        total, log_vars = build('CAMClassifier').parse_losses(
            dict(loss_a=torch.tensor(1.0), loss_b=torch.tensor([1.0, 2.0]), share=torch.tensor(9.0))
        )
        assert total.item() == 2.5 and log_vars['share'].item() == 9

    @pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
    def test_not_finite(self, build, value):
        losses = dict(loss_a=torch.tensor(1.0), loss_b=torch.tensor(value))
        with pytest.raises(NonFiniteLossError, match=r'not finite \(loss_b\)') as caught:
            build('CAMClassifier').parse_losses(losses)
        assert isinstance(caught.value, UserError) and isinstance(caught.value, FloatingPointError)

    def test_statistics_may_be_nan(self, build):
        build('CAMClassifier').parse_losses(dict(loss_a=torch.tensor(1.0), share=torch.tensor(torch.nan)))


def test_valid_pixels(build):
    samples = [SegDataSample(metainfo=dict(padding_size=(1, 2, 0, 1))), SegDataSample()]
    valid = build('CAMClassifier').valid_pixels(torch.zeros(2, 3, 3, 5), samples)
    assert valid[0].int().tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert valid[1].all()


class TestRestore:
    maps = torch.arange(20.0).view(1, 1, 4, 5)

    def restore(self, build, **meta):
        return build('CAMClassifier').restore(self.maps, [SegDataSample(metainfo=meta)])[0]

    def test_removes_padding_then_undoes_the_flip(self, build):
        result = self.restore(
            build, padding_size=(0, 2, 0, 1), ori_shape=(3, 3), flip=True, flip_direction='horizontal'
        )
        assert result.tolist() == [[[2, 1, 0], [7, 6, 5], [12, 11, 10]]]
        result = self.restore(build, padding_size=(1, 0, 2, 0), ori_shape=(2, 4), flip=True, flip_direction='vertical')
        assert result.tolist() == [[[16, 17, 18, 19], [11, 12, 13, 14]]]

    def test_padding_of_the_test_preprocessor_comes_first(self, build):
        result = self.restore(build, img_padding_size=(0, 4, 0, 0), padding_size=(0, 0, 0, 3), ori_shape=(4, 1))
        assert result.flatten().tolist() == [0, 5, 10, 15]

    def test_resizes_to_the_original_size(self, build):
        result = self.restore(build, ori_shape=(9, 11))
        expected = torch.nn.functional.interpolate(self.maps, (9, 11), mode='bilinear', align_corners=False)[0]
        torch.testing.assert_close(result, expected)

    def test_without_metainfo(self, build):
        assert self.restore(build).equal(self.maps[0])


def test_flip_gives_the_mirrored_prediction(build):
    """A picture, and its mirror image marked as flipped, have the same prediction."""
    model = build('CAMClassifier').eval()
    inputs = torch.randn(1, 3, 32, 32)
    meta = dict(ori_shape=(32, 32), flip=True, flip_direction='horizontal')
    plain = model.add_predictions(None, (32, 32), model(inputs))[0]
    cam = model(inputs)
    flipped = model.add_predictions([SegDataSample(metainfo=meta)], (32, 32), cam.flip(3))[0]
    torch.testing.assert_close(flipped.cam_logits.data, plain.cam_logits.data)


def test_no_segmentation_branch(build):
    with pytest.raises(UserError, match='CAMClassifier has no segmentation branch'):
        build('CAMClassifier').encode_decode(torch.zeros(1, 3, 32, 32))
