import torch

from csrm_plugin.functional.contrast_draws import collect_keys, draw_queries


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TestCollectKeys:
    def test_all_in_raster_order_where_they_fit(self):
        rep, mask = torch.randn(2, 3, 4, 5), torch.rand(2, 6, 4, 5) < 0.3
        keys, classes = collect_keys(rep, mask, 100, seeded())
        expected = [(c, b, y, x) for c, b, y, x in mask.transpose(0, 1).nonzero().tolist()]
        assert classes.tolist() == [c for c, *_ in expected]
        assert keys.equal(torch.stack([rep[b, :, y, x] for _, b, y, x in expected]))

    def test_more_than_fit_are_a_choice_among_all_pictures(self):
        rep = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 16, 16)
        mask = torch.rand(4, 3, 16, 16) < torch.tensor([0.5, 0.5, 0.01]).view(3, 1, 1)
        keys, classes = collect_keys(rep, mask, 40, seeded())
        counts = torch.bincount(classes)
        assert counts.tolist() == [40, 40, mask[:, 2].sum()] and counts[2] < 40
        for c in range(2):
            assert keys[classes == c, 0].unique().tolist() == [0, 1, 2, 3]
            assert keys[classes == c, 0].diff().ge(0).all(), 'in raster order'
        again, _ = collect_keys(rep, mask, 40, seeded())
        other, _ = collect_keys(rep, mask, 40, seeded(1))
        assert keys.equal(again) and not keys.equal(other)

    def test_nothing(self):
        keys, classes = collect_keys(torch.randn(2, 3, 4, 5), torch.zeros(2, 6, 4, 5, dtype=torch.bool), 10, seeded())
        assert keys.shape == (0, 3) and classes.shape == (0,)


class TestDrawQueries:
    def test_each_candidate_alike_and_no_other_pixel(self):
        mask = torch.rand(2, 3, 4, 5) < torch.tensor([0.5, 0.2, 0.0]).view(3, 1, 1)
        pixels, own, has = draw_queries(mask, 20000, seeded())
        assert has.tolist() == [True, True, False]
        for c in range(2):
            candidates = mask[:, c].flatten().nonzero().flatten()
            counts = torch.bincount(pixels[c], minlength=40)
            assert own[c].all() and counts.nonzero().flatten().equal(candidates)
            share = counts[candidates] / 20000 * len(candidates)
            assert 0.85 < share.min() <= share.max() < 1.15
        assert not own[2].any() and pixels[2].max() < 40, 'an index that can be read'
