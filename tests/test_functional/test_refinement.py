import math

import numpy as np
import pytest
import torch

from csrm_plugin.functional import pixel_adaptive_refinement
from csrm_plugin.utils import UserError

DIRECTIONS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def slow(image, masks, dilations, iterations, bandwidth=0.3, position_weight=0.01):
    """The definition, pixel by pixel, for one picture (3, H, W) and masks (K, H, W) of its size, in double."""
    image, masks = image.astype(float), masks.astype(float)
    height, width = image.shape[1:]
    shifts = [(dilation * y, dilation * x) for dilation in dilations for y, x in DIRECTIONS]
    distances = np.array([math.sqrt(y * y + x * x) for y, x in shifts])
    near = np.exp(-((distances / (bandwidth * distances.std(ddof=1))) ** 2))
    near /= near.sum()
    for _ in range(iterations):
        output = np.zeros_like(masks)
        for y in range(height):
            for x in range(width):
                at = [(min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)) for dy, dx in shifts]
                colours = np.array([image[:, v, u] for v, u in at])
                scale = bandwidth * (colours.std(axis=0, ddof=1) + 1e-8)
                likeness = -((np.abs(colours - image[:, y, x]) / scale) ** 2).mean(axis=1)
                alike = np.exp(likeness - likeness.max())
                weights = alike / alike.sum() + position_weight * near
                output[:, y, x] = sum(weight * masks[:, v, u] for weight, (v, u) in zip(weights, at))
        masks = output
    return masks


def make_batch(count=2, classes=3, size=(6, 9), low=0, high=256):
    images = torch.randint(low, high, (count, 3, *size)).float()
    return images, torch.rand(count, classes, *size)


@pytest.mark.parametrize(
    ('dilations', 'iterations', 'settings'),
    [
        ((1, 2, 4, 8, 12, 24), 2, {}),
        ((1,), 3, {}),
        ((3, 1), 1, dict(bandwidth=0.7, position_weight=0.2)),
        ([2], 0, {}),
    ],
)
def test_equals_slow_loop(dilations, iterations, settings):
    """The picture is smaller than the dilations."""
    images, masks = make_batch()
    result = pixel_adaptive_refinement(images, masks, dilations, iterations, **settings)
    for image, mask, row in zip(images, masks, result):
        expected = slow(image.numpy(), mask.numpy(), dilations, iterations, **settings)
        np.testing.assert_allclose(row.numpy(), expected, rtol=2e-5)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_nearly_equal_colours(dtype, tolerance):
    """Sums of colours or squares would round off here: the standard deviations are 3e-6 of the colours."""
    images, masks = make_batch(1, 2)
    images, masks = (250 + images.to(dtype) / 1e5), masks.to(dtype)
    result = pixel_adaptive_refinement(images, masks, (1, 2), 2)
    expected = slow(images[0].numpy(), masks[0].numpy(), (1, 2), 2)
    np.testing.assert_allclose(result[0].numpy(), expected, rtol=tolerance)


def test_worked_by_hand():
    """One row of two colours; three neighbours lie to each side, and at the border the pixel is its own."""
    images = torch.tensor([[[[0, 0, 255, 255]]]], dtype=torch.uint8).expand(1, 3, 1, 4)
    masks = torch.tensor([[[[0.0, 1.0, 1.0, 0.0]]]])
    result = pixel_adaptive_refinement(images, masks, (1,), 1, position_weight=0)
    torch.testing.assert_close(result, torch.tensor([[[[3 / 8, 2 / 5, 2 / 5, 3 / 8]]]]))


def test_a_picture_of_one_colour_is_averaged():
    masks = torch.zeros(1, 1, 5, 5)
    masks[0, 0, 2, 2] = 1
    result = pixel_adaptive_refinement(torch.full((1, 3, 5, 5), 7.0), masks, (1,), 1, position_weight=0)[0, 0]
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = 1 / 8
    expected[2, 2] = 0
    torch.testing.assert_close(result, expected)


def test_masks_stop_at_edges():
    images = torch.zeros(1, 3, 20, 20)
    images[..., 10:] = 200
    images += torch.rand_like(images)
    masks = torch.rand(1, 1, 20, 20) * 0.4
    masks[..., 10:] += 0.6
    result = pixel_adaptive_refinement(images, masks)[0, 0]
    left, right = result[:, :10], result[:, 10:]
    assert left.max() < 0.3 and right.min() > 0.7
    assert right.std() < 0.3 * masks[..., 10:].std() and left.std() < 0.3 * masks[..., :10].std()


def test_constant_masks_stay_proportional():
    """Weights sum to 1.01."""
    images, _ = make_batch(size=(10, 12))
    masks = torch.tensor([0.0, 0.25, 3.0])[None, :, None, None].expand(2, 3, 10, 12)
    torch.testing.assert_close(pixel_adaptive_refinement(images, masks), masks * 1.01**10)
    torch.testing.assert_close(pixel_adaptive_refinement(images, masks, position_weight=0.5), masks * 1.5**10)


@pytest.mark.parametrize(
    'change',
    [
        lambda x: x.flip(2),
        lambda x: x.flip(3),
        lambda x: x.transpose(2, 3),
    ],
)
def test_symmetry(change):
    images, masks = make_batch(size=(11, 8))
    result = pixel_adaptive_refinement(change(images), change(masks))
    torch.testing.assert_close(result, change(pixel_adaptive_refinement(images, masks)))


def test_each_picture_and_each_mask_for_itself():
    images, masks = make_batch(3, 4)
    result = pixel_adaptive_refinement(images, masks)
    for index in range(3):
        single = pixel_adaptive_refinement(images[index : index + 1], masks[index : index + 1, 2:3])
        torch.testing.assert_close(single[0, 0], result[index, 2])
    mixed = pixel_adaptive_refinement(images, masks * 2 + masks.flip(1))
    torch.testing.assert_close(mixed, result * 2 + result.flip(1))


def test_all_pictures_at_once_equal_one_by_one():
    """What another device than the CPU does."""
    from csrm_plugin.functional.refinement import _refine

    images, masks = make_batch(3)
    together = _refine(images, masks, (1, 2), 2, 0.3, 0.01)
    torch.testing.assert_close(pixel_adaptive_refinement(images, masks, (1, 2), 2), together)


def test_masks_are_resized_with_aligned_corners():
    images, _ = make_batch(size=(5, 9))
    masks = torch.tensor([[0.0, 1.0]]).expand(2, 1, 1, 2)
    result = pixel_adaptive_refinement(images, masks, iterations=0)
    torch.testing.assert_close(result[0, 0], (torch.arange(9) / 8).expand(5, 9))


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (6, 1)])
def test_tiny_pictures(size):
    images, masks = make_batch(size=size)
    result = pixel_adaptive_refinement(images, masks)
    assert result.shape == masks.shape and result.isfinite().all()
    if size == (1, 1):
        torch.testing.assert_close(result, masks * 1.01**10)


@pytest.mark.parametrize('shape', [(0, 3), (2, 0)])
def test_nothing_to_refine(shape):
    result = pixel_adaptive_refinement(torch.zeros(shape[0], 3, 4, 5), torch.zeros(*shape, 4, 5))
    assert result.shape == (*shape, 4, 5)


def test_arrays_in_array_out():
    images, masks = make_batch(size=(8, 8))
    expected = pixel_adaptive_refinement(images, masks)
    result = pixel_adaptive_refinement(images.numpy().astype(np.uint8), masks.numpy())
    assert isinstance(result, np.ndarray) and result.dtype == np.float32
    np.testing.assert_array_equal(result, expected.numpy())
    # As a mirrored, read-only view of what a picture file gives.
    view = np.ascontiguousarray(images.numpy().astype(np.uint8).transpose(0, 2, 3, 1)[..., ::-1])
    view.flags.writeable = False
    np.testing.assert_array_equal(pixel_adaptive_refinement(view[..., ::-1].transpose(0, 3, 1, 2), masks), expected)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [
        (torch.float16, 1e-3),
        (torch.bfloat16, 1e-2),
        (torch.float64, 1e-5),
    ],
)
def test_precisions(dtype, tolerance):
    images, masks = make_batch()
    result = pixel_adaptive_refinement(images.to(dtype), masks.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result.float(), pixel_adaptive_refinement(images, masks), rtol=tolerance, atol=0)


def test_integer_masks_become_float():
    images, masks = make_batch()
    masks = masks > 0.5
    result = pixel_adaptive_refinement(images, masks)
    assert result.dtype == torch.float32 and result.equal(pixel_adaptive_refinement(images, masks.float()))


def test_inputs_are_left_alone_and_no_gradient_flows():
    images, masks = make_batch()
    masks.requires_grad_()
    before = images.clone(), masks.detach().clone()
    assert not pixel_adaptive_refinement(images, masks).requires_grad
    assert images.equal(before[0]) and masks.equal(before[1])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(dilations=()), r'`dilations` must be a list.*\(\)'),
        (dict(dilations=4), '`dilations` must be a list.*4'),
        (dict(dilations=(1, 0)), '`dilations`.*at least 1'),
        (dict(dilations=(1, 1.5)), '`dilations`.*whole numbers'),
        (dict(dilations='12'), "`dilations`.*'12'"),
        (dict(iterations=-1), '`iterations`.*-1'),
        (dict(iterations=1.5), '`iterations`.*1.5'),
        (dict(bandwidth=0), '`bandwidth`.*above 0'),
        (dict(bandwidth=float('nan')), '`bandwidth`.*nan'),
        (dict(position_weight=-0.1), '`position_weight`.*-0.1'),
        (dict(position_weight='much'), "`position_weight`.*'much'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message) as info:
        pixel_adaptive_refinement(*make_batch(), **settings)
    assert '\n' not in str(info.value)


@pytest.mark.parametrize(
    ('images', 'masks', 'message'),
    [
        ((2, 4, 5, 6), (2, 1, 5, 6), r'`images` must be \(B, 3, H, W\).*\(2, 4, 5, 6\)'),
        ((3, 5, 6), (1, 1, 5, 6), '`images`'),
        ((2, 3, 0, 6), (2, 1, 5, 6), '`images`'),
        ((2, 3, 5, 6), (1, 1, 5, 6), r'`masks` must be \(B, K, h, w\) with B = 2.*\(1, 1, 5, 6\)'),
        ((2, 3, 5, 6), (2, 5, 6), '`masks`'),
        ((2, 3, 5, 6), (2, 1, 0, 6), '`masks`'),
    ],
)
def test_wrong_shapes(images, masks, message):
    with pytest.raises(ValueError, match=message):
        pixel_adaptive_refinement(torch.zeros(images), torch.zeros(masks))
