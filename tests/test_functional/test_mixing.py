import pytest
import torch

from csrm_plugin.functional import class_mix, drop_small_classes, mix, pasted_classes


def one_row(*rows):
    return torch.tensor(rows)[:, None]


def classes_in(paste, labels, partners):
    return [sorted(set(labels[p][m].tolist())) for m, p in zip(paste, partners.tolist())]


@pytest.mark.parametrize(('present', 'pasted'), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_half_of_the_foreground_classes_rounded_up(present, pasted):
    labels = one_row([0, 0, 0, 0, 0, 255, 0], [255, 0] + [c + 1 if c < present else 0 for c in range(5)])
    partners = torch.tensor([1, 1])
    for seed in range(10):
        paste = class_mix(labels, partners, torch.Generator().manual_seed(seed))
        chosen = classes_in(paste, labels, partners)
        assert len(chosen[0]) == pasted and not {0, 255} & set(chosen[0])
        # All pixels of a chosen class are pasted.
        for c in chosen[0]:
            assert paste[0][labels[1] == c].all()
        assert not paste[1].any(), 'a picture that is its own partner receives nothing'


def test_every_class_is_chosen_equally_often():
    labels = one_row([0, 0, 0], [1, 2, 3])
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(3)
    for _ in range(600):
        counts += class_mix(labels, torch.tensor([1, 1]), generator)[0, 0]
    assert counts.sum() == 1200 and (counts - 400).abs().max() < 50


def test_reproducible_by_generator_without_touching_the_global_state():
    labels, partners = torch.randint(0, 9, (4, 8, 8)), torch.tensor([1, 2, 3, 0])
    state = torch.get_rng_state()
    first, second = (class_mix(labels, partners, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.equal(second) and state.equal(torch.get_rng_state())
    assert any(not class_mix(labels, partners, torch.Generator().manual_seed(s)).equal(first) for s in range(5))


def test_small_classes_become_uncertain():
    # Shares of 8 pixels: background and class 1 one each, class 2 two, class 3 three, one uncertain.
    labels = one_row([0, 1, 2, 2, 3, 3, 3, 255])
    assert drop_small_classes(labels, 0.0).equal(labels)
    assert drop_small_classes(labels, 2 / 8).flatten().tolist() == [0, 255, 2, 2, 3, 3, 3, 255]
    assert drop_small_classes(labels, 1.0).flatten().tolist() == [0] + [255] * 7
    # Each picture has areas of its own.
    both = drop_small_classes(one_row([1, 1, 1, 2], [2, 2, 2, 1]), 0.5)
    assert both[:, 0].tolist() == [[1, 1, 1, 255], [2, 2, 2, 255]]


def test_pasted_classes():
    labels = one_row([0, 3, 0, 0], [1, 1, 2, 255], [2, 2, 2, 2])
    partners = torch.tensor([1, 2, 2])
    paste = torch.tensor([[[True, True, False, False]], [[False] * 4], [[False] * 4]])
    assert pasted_classes(labels, partners, paste, 3).tolist() == [[True, False, False], [False] * 3, [False] * 3]


def test_mix_takes_the_masked_pixels_from_the_partner():
    values = torch.arange(8.0).view(2, 1, 4)
    paste = torch.tensor([[[True, False, False, True]], [[False] * 4]])
    assert mix(values, torch.tensor([1, 0]), paste).tolist() == [[[4, 1, 2, 7]], [[4, 5, 6, 7]]]


def test_mix_resizes_the_mask_with_nearest_neighbours():
    paste = torch.zeros(2, 4, 4, dtype=torch.bool)
    paste[0, :2, 2:] = True
    values = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    mixed = mix(values, torch.tensor([1, 1]), paste)
    assert mixed[0].tolist() == [[[0, 1], [0, 0]]] * 3 and mixed[1].eq(1).all()


@pytest.mark.parametrize('dtype', [torch.int64, torch.bfloat16, torch.bool, torch.uint8])
def test_mix_keeps_the_dtype(dtype):
    values = torch.randint(0, 2, (2, 3, 4, 4)).to(dtype)
    assert mix(values, torch.tensor([1, 0]), torch.ones(2, 4, 4, dtype=torch.bool)).equal(values.flip(0))
