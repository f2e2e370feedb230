import pytest
import torch

from csrm_plugin.models.segmentors.kept_labels import KeptLabels


class Maker:
    """Labels that are a function of the picture, position by position; remembers how many it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, rows, pictures, valid):
        self.asked.append(rows.tolist())
        labels = (pictures[:, 0, ::2, ::2] * 50).long().abs().clamp(max=200)
        return labels.masked_fill(~valid, 255)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    valid = torch.ones(4, 3, 5, dtype=torch.bool)
    valid[1, :, 3:] = False
    return torch.randn(4, 3, 6, 10), torch.eye(4), valid


@pytest.mark.parametrize('mirrored', [False, True])
def test_labels_are_those_of_the_maker_and_made_once(batch, mirrored):
    inputs, labels, valid = batch
    kept, make = KeptLabels(mirrored), Maker()
    first, known = kept(inputs, labels, valid, make)
    # Every second column of a mirrored picture is the other half of them: nothing to compare with.
    if not mirrored:
        assert first.equal(Maker()(torch.arange(4), inputs, valid))
    assert known == 0 and len(kept) == 4 and make.asked == [[0, 1, 2, 3]]
    second, known = kept(inputs, labels, valid, make)
    assert second.equal(first) and known == 1 and len(make.asked) == 1
    assert first.dtype == torch.int64 and (first[1, :, 3:] == 255).all()


def test_order_and_company_of_a_picture_do_not_matter(batch):
    inputs, labels, valid = batch
    kept, make = KeptLabels(), Maker()
    whole, _ = kept(inputs, labels, valid, make)
    order = torch.tensor([2, 0])
    some, known = kept(inputs[order], labels[order], valid[order], make)
    assert some.equal(whole[order]) and known == 1
    new = torch.cat([inputs[:1], torch.randn(1, 3, 6, 10)])
    _, known = kept(new, labels[:2], valid[:2].clone().fill_(True), make)
    assert known == 0.5 and make.asked[-1] == [1]


def test_mirror_image_has_the_mirrored_labels_whichever_came_first(batch):
    inputs, labels, valid = batch
    make = Maker()
    one, other = KeptLabels(True), KeptLabels(True)
    seen, _ = one(inputs, labels, valid, make)
    turned, known = one(inputs.flip(3), labels, valid.flip(2), make)
    assert turned.equal(seen.flip(2)) and known == 1
    first, _ = other(inputs.flip(3), labels, valid.flip(2), make)
    assert first.equal(turned)  # as after a training that was interrupted
    assert KeptLabels(False)(inputs, labels, valid, make)[1] == 0


@pytest.mark.parametrize('change', ['pixel', 'label'])
def test_another_picture_or_label_is_another_entry(batch, change):
    inputs, labels, valid = batch
    kept, make = KeptLabels(), Maker()
    kept(inputs, labels, valid, make)
    inputs, labels = inputs.clone(), labels.clone()
    if change == 'pixel':
        inputs[2, 1, 3, 3] += 1e-3
    else:
        labels[2, 0] = 1
    assert kept(inputs, labels, valid, make)[1] == 0.75 and make.asked[-1] == [2]


def test_clear_forgets(batch):
    kept, make = KeptLabels(), Maker()
    kept(*batch, make)
    kept.clear()
    assert len(kept) == 0 and kept(*batch, make)[1] == 0
