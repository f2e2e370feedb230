import pytest
import torch

from csrm_plugin import functional as F


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestRandomWindows:
    def test_factor_one_is_the_picture_itself(self):
        windows = F.random_windows(3, (1.0, 1.0))
        maps = torch.rand(3, 2, 5, 7)
        assert F.look_through(maps, windows) == pytest.approx(maps, abs=1e-6)
        labels = torch.randint(0, 9, (3, 5, 7))
        assert F.look_through(labels, windows, nearest=True).equal(labels)

    def test_windows_of_enlarged_pictures_stay_inside_and_shrunk_ones_are_whole(self):
        windows = F.random_windows(500, (0.5, 2.0), generator())
        inverse, shift = windows[:, 0, 0], windows[:, :, 2].abs().amax(dim=1)
        assert (windows[:, 1, 1] == inverse).all() and (windows[:, 0, 1] == 0).all()
        large = inverse <= 1
        assert (inverse + shift)[large].max() <= 1 + 1e-6  # no position beyond the edge
        assert (inverse - shift)[~large].min() >= 1 - 1e-6  # both edges are seen
        factors = 1 / inverse
        assert factors.min() >= 0.5 and factors.max() <= 2 and abs(factors.mean() - 1.25) < 0.05

    def test_the_generator_alone_decides(self):
        first, second = (F.random_windows(4, (0.5, 2.0), generator(3)) for _ in range(2))
        assert first.equal(second) and not first.equal(F.random_windows(4, (0.5, 2.0), generator(4)))


class TestLookThrough:
    def test_quarter_of_a_picture_by_hand(self):
        """The upper right quarter, each of whose pixels becomes four."""
        window = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 0.5, -0.5]]])
        labels = torch.arange(16).view(1, 4, 4)
        seen = F.look_through(labels, window, nearest=True)
        assert seen.equal(labels[:, :2, 2:].repeat_interleave(2, 1).repeat_interleave(2, 2))

    def test_outside_of_a_shrunk_picture_is_fill(self):
        window = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])  # half the size, in the middle
        labels = torch.ones(1, 8, 8, dtype=torch.long)
        seen = F.look_through(labels, window, nearest=True, fill=F.IGNORE_INDEX)
        wanted = torch.full((1, 8, 8), F.IGNORE_INDEX)
        wanted[:, 2:6, 2:6] = 1
        assert seen.equal(wanted)
        assert F.look_through(labels.bool(), window, nearest=True).equal(wanted == 1)
        assert F.look_through(labels[:, None].float(), window)[0, 0].sum() == pytest.approx(16)

    def test_maps_of_two_sizes_agree(self):
        """The same window at the size of the labels and at a quarter of it: what is where stays so."""
        torch.manual_seed(0)
        windows = F.random_windows(6, (0.75, 1.5))
        coarse = torch.rand(6, 1, 12, 12)
        fine = torch.nn.functional.interpolate(coarse, (48, 48), mode='bilinear', align_corners=False)
        shrunk = torch.nn.functional.avg_pool2d(F.look_through(fine, windows), 4)
        assert (shrunk - F.look_through(coarse, windows)).abs().mean() < 0.05
