import pytest
import torch

from csrm_plugin import functional as F


def test_scaled_pictures_go_from_edge_to_edge():
    ramp = torch.linspace(0, 1, 37)[:, None].expand(1, 3, 37, 29)
    small = F.scale_pictures(ramp, 0.3)
    assert small.shape == (1, 3, 11, 9)
    torch.testing.assert_close(small + small.flip(2), torch.ones_like(small))
    assert F.scale_pictures(ramp, 0.5).shape == (1, 3, 18, 14)
    assert F.scale_pictures(ramp[..., :1, :1], 0.3).shape == (1, 3, 1, 1)


@pytest.mark.parametrize('align_corners', [False, True])
def test_upscale_is_torchs_bilinear_and_leaves_a_map_of_its_size_alone(align_corners):
    maps = torch.randn(2, 3, 5, 7).half()
    assert F.upscale(maps, (5, 7), align_corners).equal(maps.float()) and F.upscale(maps, None).equal(maps.float())
    expected = torch.nn.functional.interpolate(maps.float(), (9, 20), mode='bilinear', align_corners=align_corners)
    assert F.upscale(maps, (9, 20), align_corners).equal(expected)
    assert F.upscale(maps.double(), (9, 20)).dtype == torch.float64


def test_nearest_keeps_labels_and_masks():
    labels = torch.tensor([[[0, 1, 2, 255], [3, 4, 5, 6]]])
    assert F.shrink_nearest(labels, (1, 2)).tolist() == [[[0, 2]]]
    assert F.shrink_nearest(labels > 1, (2, 2)).tolist() == [[[False, True], [True, True]]]
    assert F.shrink_nearest(labels, (2, 4)) is labels


def test_positions_inside_are_covered_by_half():
    valid = torch.zeros(3, 4, 8, dtype=torch.bool)
    valid[0], valid[1, :, :5], valid[2, :1, :1] = True, True, True
    assert F.inside(valid, (1, 4)).tolist() == [
        [[True] * 4],
        [[True, True, True, False]],
        [[True, False, False, False]],
    ]


def test_masked_maps_are_zero_there_even_where_they_were_infinite():
    maps = torch.tensor([[[[1.0, float('inf')]]]])
    assert F.masked(maps, torch.tensor([[[True, False]]])).tolist() == [[[[1.0, 0.0]]]]
