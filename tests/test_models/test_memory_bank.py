import copy
import io

import pytest
import torch

from csrm_plugin.models.memory_bank import MemoryBank


def push(bank, *pairs):
    """Push keys given as (class, number); a key is its number twice."""
    numbers = torch.tensor([float(number) for _, number in pairs])
    bank.enqueue(numbers[:, None].expand(-1, 2), torch.tensor([c for c, _ in pairs], dtype=torch.long))


def numbers(bank, c):
    assert bank.keys(c)[:, 0].equal(bank.keys(c)[:, 1])
    return bank.keys(c)[:, 0].tolist()


def test_first_in_first_out():
    bank = MemoryBank(3, 2, 3)
    push(bank, (1, 10), (0, 1), (1, 11))
    assert [numbers(bank, c) for c in range(3)] == [[1], [10, 11], []]
    push(bank, (1, 12), (1, 13))
    assert numbers(bank, 1) == [11, 12, 13]
    push(bank, (0, 2), (1, 14), (2, 20))
    assert [numbers(bank, c) for c in range(3)] == [[1, 2], [12, 13, 14], [20]]


@pytest.mark.parametrize('capacity', [1, 2, 3, 5])
def test_equals_lists(capacity):
    bank, lists = MemoryBank(4, 2, capacity), [[] for _ in range(4)]
    generator = torch.Generator().manual_seed(capacity)
    number = 0
    for _ in range(20):
        count = int(torch.randint(0, 12, (1,), generator=generator))  # at times more than fits, at times nothing
        classes = torch.randint(0, 4, (count,), generator=generator).tolist()
        pairs = []
        for c in classes:
            pairs.append((c, number))
            lists[c] = [*lists[c], float(number)][-capacity:]
            number += 1
        push(bank, *pairs) if pairs else bank.enqueue(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
        assert [numbers(bank, c) for c in range(4)] == lists
        assert bank.sizes.tolist() == [len(row) for row in lists]
        assert bank.fill().item() == pytest.approx(sum(map(len, lists)) / (4 * capacity))


def test_more_than_capacity_at_once_keeps_the_last():
    bank = MemoryBank(2, 2, 3)
    push(bank, *[(0, n) for n in range(10)], (1, 99))
    assert numbers(bank, 0) == [7, 8, 9] and numbers(bank, 1) == [99]
    push(bank, *[(0, n) for n in range(10, 14)])
    assert numbers(bank, 0) == [11, 12, 13]


def test_keys_are_stored_as_given_without_graph():
    bank, keys = MemoryBank(2, 2, 3), torch.tensor([[3.0, 4.0]], requires_grad=True)
    bank.enqueue(keys * 1, torch.tensor([1]))
    assert bank.keys(1).tolist() == [[3, 4]] and not bank.features.requires_grad
    bank.enqueue(torch.ones(1, 2, dtype=torch.float16), torch.tensor([1]))
    assert bank.features.dtype == torch.float32


def test_age_in_pushes():
    bank = MemoryBank(2, 2, 2)
    assert bank.age().item() == 0
    push(bank, (0, 1))
    assert bank.age().item() == 0
    push(bank, (1, 2))
    push(bank, (1, 3))
    assert bank.age().item() == 1  # ages 2, 1, 0
    push(bank, (1, 4))
    assert bank.age().item() == pytest.approx(4 / 3)  # ages 3, 1, 0


def test_sample_draws_held_keys_only_and_uniformly():
    bank = MemoryBank(2, 2, 5)
    push(bank, (1, 1), (1, 2), (1, 3))
    drawn = bank.sample(1, 3000, torch.Generator().manual_seed(0))
    assert drawn.shape == (3000, 2)
    values, counts = drawn[:, 0].unique(return_counts=True)
    assert values.tolist() == [1, 2, 3] and (counts - 1000).abs().max() < 120
    assert drawn.equal(bank.sample(1, 3000, torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match='no keys of class 0'):
        bank.sample(0, 1)


def test_draw_for_all_classes_at_once():
    bank = MemoryBank(3, 2, 4)
    push(bank, (0, 1), (2, 1), (2, 2), (2, 3))
    drawn = bank.draw(900, torch.Generator().manual_seed(0))
    assert drawn[:2].eq(0).all()
    values, counts = drawn[2].unique(return_counts=True)
    assert values.tolist() == [0, 1, 2] and (counts - 300).abs().max() < 60


def test_state_is_in_buffers():
    bank = MemoryBank(2, 2, 3)
    push(bank, *[(0, n) for n in range(5)], (1, 7))
    assert not list(bank.parameters())
    file = io.BytesIO()
    torch.save(bank.state_dict(), file)
    file.seek(0)
    other = MemoryBank(2, 2, 3)
    other.load_state_dict(torch.load(file))
    for copied in (other, copy.deepcopy(bank)):
        push(copied, (0, 5))
        assert numbers(copied, 0) == [3, 4, 5] and numbers(copied, 1) == [7] and copied.age() > 0
    assert numbers(bank, 0) == [2, 3, 4]


@pytest.mark.parametrize('arguments', [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_sizes_are_checked(arguments):
    with pytest.raises(ValueError, match='at least 1'):
        MemoryBank(*arguments)


def test_wrong_keys_are_named():
    bank = MemoryBank(3, 2, 3)
    with pytest.raises(ValueError, match=r'`features` must be \(1, 2\).*\(1, 4\)'):
        bank.enqueue(torch.zeros(1, 4), torch.tensor([0]))
    for wrong in (255, -1, 3):
        with pytest.raises(ValueError, match=r'0\.\.2.*255'):
            bank.enqueue(torch.zeros(2, 2), torch.tensor([0, wrong]))
    assert bank.steps == 0 and bank.sizes.sum() == 0
