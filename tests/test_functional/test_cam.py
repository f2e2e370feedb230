import pytest
import torch

from csrm_plugin.functional import normalize_cam


def test_worked_by_hand():
    cam = torch.tensor([[[[-1.0, 2.0], [4.0, 0.0]], [[-3.0, -2.0], [-1.0, -5.0]], [[0.5, 0.5], [0.5, 0.25]]]])
    expected = torch.tensor([[[[0, 0.5], [1, 0]], [[0, 0], [0, 0]], [[1, 1], [1, 0.5]]]])
    assert normalize_cam(cam).equal(expected)


def test_upscales_before_relu_and_division():
    # Bilinear from 2 to 4 columns: -4, -2, 2, 4 (the ends are clamped). ReLU before it would give 0, 1, 3, 4.
    cam = torch.tensor([-4.0, 4.0]).view(1, 1, 1, 2)
    assert normalize_cam(cam, (1, 4)).flatten().tolist() == [0, 0, 0.5, 1]
    aligned = normalize_cam(cam, (1, 4), align_corners=True).flatten().tolist()
    assert aligned == pytest.approx([0, 0, 1 / 3, 1])


def test_equals_slow_loop():
    cam = torch.randn(3, 4, 5, 7)
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    result = normalize_cam(cam, labels=labels)
    for b in range(3):
        for c in range(4):
            positive = [[max(float(v), 0.0) for v in row] for row in cam[b, c]]
            top = max(max(row) for row in positive)
            expected = torch.tensor(positive) / top * labels[b, c]
            torch.testing.assert_close(result[b, c], expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_result_is_float32_in_0_to_1(dtype):
    result = normalize_cam((torch.randn(2, 3, 8, 8) * 100).to(dtype), (16, 16))
    assert result.dtype == torch.float32 and result.min() >= 0
    assert result.amax(dim=(2, 3)).eq(1).all()


def test_extreme_values():
    cam = torch.tensor([1e38, 3e38, 1e-30, 3e-30]).view(1, 2, 1, 2)
    assert normalize_cam(cam).flatten().tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1])
    infinite = torch.tensor([torch.inf, torch.nan, 1.0, 2.0]).view(1, 2, 1, 2)
    assert normalize_cam(infinite, labels=torch.tensor([[0, 1]])).flatten().tolist() == [0, 0, 0.5, 1]


def test_gradcheck():
    cam = torch.randn(1, 2, 3, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: normalize_cam(x, (5, 5)), cam)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r'\(B, C, h, w\).*\(3, 4\)'):
        normalize_cam(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r'`labels`.*\(1, 2\).*\(1, 3\)'):
        normalize_cam(torch.zeros(1, 2, 3, 3), labels=torch.zeros(1, 3))
