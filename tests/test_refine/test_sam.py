import json
import sys

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.refine import enhance_labels, read_masks, write_masks
from csrm_plugin.refine.sam import read_records
from csrm_plugin.utils import MissingFileError, UserError


def mask(text):
    """A mask of one row: ``'.##.'``."""
    return np.array([[character == '#' for character in text]])


def enhance(labels, *masks, **options):
    """Labels of one row after SEPL."""
    stack = np.stack([mask(text) for text in masks]) if masks else np.zeros((0, 1, len(labels)), dtype=bool)
    result = enhance_labels(np.array([labels]), stack, **options)
    assert result.dtype == np.uint8
    return result[0].tolist()


def slow_reference(labels, masks, min_mask_overlap, min_label_coverage):
    """The rules of the paper, pixel by pixel."""
    height, width = labels.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    classes = sorted({int(labels[p]) for p in pixels} - {0, 255})
    members = {c: {p for p in pixels if labels[p] == c} for c in classes}
    chosen, covered = [], set()
    for array in masks:
        inside = {p for p in pixels if array[p]}
        covered |= inside
        best, most = None, 0
        for c in classes:
            if len(inside & members[c]) > most:
                best, most = c, len(inside & members[c])
        if best is not None and (
            most / len(inside) > min_mask_overlap or most / len(members[best]) >= min_label_coverage
        ):
            chosen.append((len(inside), best, inside))
    result = np.zeros_like(labels)
    for p in pixels:
        on_top = min(((size, c) for size, c, inside in chosen if p in inside), default=None)
        label = int(labels[p])
        if label in classes and label not in {c for _, c, _ in chosen}:
            result[p] = label
        elif on_top is not None:
            result[p] = on_top[1]
        elif label == 255 or p not in covered:
            result[p] = label
    return result


@pytest.mark.parametrize('thresholds', [(0.5, 0.85), (0.2, 0.4), (0.9, 1), (0, 0), (1, 1), (1, 0)])
def test_equals_a_slow_loop(thresholds):
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(25):
        labels = rng.choice([0, 0, 1, 4, 20, 255], (7, 9)).astype(np.uint8)
        labels[1:5, 2:6] = rng.choice([4, 5])
        masks = rng.random((rng.integers(0, 9), 7, 9)) < rng.choice([0, 0.02, 0.3])
        for array in masks:
            if rng.random() < 0.7:
                array |= labels == rng.choice(labels.ravel())
            y, x = rng.integers(0, 5, 2)
            array[y : y + 3, x : x + 4] ^= rng.random() < 0.5
        expected = slow_reference(labels, masks, *thresholds)
        np.testing.assert_array_equal(enhance_labels(labels, masks, *thresholds), expected)
        np.testing.assert_array_equal(enhance_labels(labels.astype(np.int64), masks[::-1], *thresholds), expected)
        changed += (expected != labels).any()
    assert changed > 3


class TestRules:
    def test_mask_mostly_of_a_class_becomes_it(self):
        assert enhance([0, 3, 3, 0, 0], '.###.') == [0, 3, 3, 3, 0]

    def test_exactly_half_is_not_more_than_half(self):
        assert enhance([0, 3, 3, 3, 3, 3], '##....') == [0, 3, 3, 3, 3, 3]  # not selected: the class keeps all
        assert enhance([0, 3, 3, 3, 3, 3], '##....', '..##..') == [0, 0, 3, 3, 3, 3]
        assert enhance([0, 3, 3, 3, 3, 3], '##....', '..##..', min_mask_overlap=0.49) == [3, 3, 3, 3, 3, 3]

    def test_large_mask_that_covers_the_class_becomes_it(self):
        labels = [0] * 40 + [7] * 20
        assert enhance(labels, '#' * 57 + '...') == [7] * 60  # 17 of 20 are 0.85
        assert enhance(labels, '#' * 56 + '....') == labels
        assert enhance(labels, '#' * 56 + '....', min_label_coverage=0.8) == [7] * 60

    def test_coverage_is_exact(self):
        """A class of any size is covered by exactly the share that was asked for, whatever floats make of it."""
        for hundredths in range(1, 101):
            labels = np.zeros((1, 400), dtype=np.uint8)
            labels[0, 300:] = 1
            cover = np.zeros((1, 1, 400), dtype=bool)
            cover[..., : 300 + hundredths] = True
            assert (enhance_labels(labels, cover, 1, hundredths / 100)[cover[0]] == 1).all()
            cover[..., 299 + hundredths] = False
            assert (enhance_labels(labels, cover, 1, hundredths / 100) == labels).all()

    def test_pixels_without_any_mask_are_kept(self):
        assert enhance([3, 0, 3, 3, 3], '..##.') == [3, 0, 3, 3, 3]

    def test_class_pixels_in_masks_not_selected_become_background(self):
        assert enhance([3, 0, 0, 3, 3, 3], '###...', '...##.') == [0, 0, 0, 3, 3, 3]

    def test_masks_go_to_the_largest_intersection_only(self):
        # Two pixels of 2, three of 5: the mask is of class 5 alone, and 2 keeps its pixels on top of it.
        assert enhance([2, 2, 5, 5, 5], '#####') == [2, 2, 5, 5, 5]
        # Class 2 has a mask of its own now, so the rest of it goes.
        assert enhance([2, 2, 5, 5, 5, 2, 2], '#####..', '.....##') == [5, 5, 5, 5, 5, 2, 2]

    def test_ties_go_to_the_lowest_class(self):
        assert enhance([9, 4, 0, 9], '##..', '...#', min_label_coverage=1) == [4, 4, 0, 9]

    def test_smaller_mask_lies_on_top(self):
        for order in ([0, 1], [1, 0]):
            masks = ['######', '..##..']
            assert enhance([8, 8, 1, 1, 8, 8], *(masks[i] for i in order)) == [8, 8, 1, 1, 8, 8]
            assert enhance([1, 1, 8, 8, 1, 1], *(masks[i] for i in order)) == [1, 1, 8, 8, 1, 1]

    def test_equal_masks_lower_class_on_top(self):
        for masks in (('###.', '.###'), ('.###', '###.')):
            assert enhance([8, 8, 1, 1], *masks) == [8, 1, 1, 1]

    def test_class_without_selected_mask_keeps_its_pixels(self):
        assert enhance([6, 6, 0, 0, 0, 0], '#.###.') == [6, 6, 0, 0, 0, 0]

    def test_uncertain_pixels(self):
        # Under a selected mask they take its class, elsewhere they stay, even in masks that are not selected.
        assert enhance([3, 3, 255, 255, 255], '###..', '...#.') == [3, 3, 3, 255, 255]
        assert enhance([255, 255, 255, 3, 3], '####.', '...##') == [255, 255, 255, 3, 3]
        assert enhance([255, 255], '##') == [255, 255]

    def test_nothing_to_do(self):
        assert enhance([0, 3, 255, 0]) == [0, 3, 255, 0]  # no masks
        assert enhance([0, 3, 255, 0], '....') == [0, 3, 255, 0]  # an empty mask
        assert enhance([0, 0, 0], '##.') == [0, 0, 0]
        assert enhance_labels(np.zeros((0, 5), dtype=np.uint8), np.zeros((2, 0, 5), dtype=bool)).shape == (0, 5)


def test_inputs_are_left_alone():
    labels, masks = np.array([[0, 3, 3]]), np.ones((1, 1, 3), dtype=bool)
    enhance_labels(labels, masks)
    assert labels.tolist() == [[0, 3, 3]] and masks.all()


@pytest.mark.parametrize('value', [-0.1, 1.5, float('nan')])
@pytest.mark.parametrize('name', ['min_mask_overlap', 'min_label_coverage'])
def test_thresholds_are_fractions(name, value):
    with pytest.raises(UserError, match=rf'`{name}` must be a fraction from 0 to 1, but is {value}'):
        enhance([0, 1], '##', **{name: value})


@pytest.mark.parametrize(
    ('labels', 'masks', 'message'),
    [
        (np.zeros((2, 3)), np.zeros((1, 2, 3), bool), r'`labels` must be .*float64'),
        (np.full((2, 3), 256), np.zeros((1, 2, 3), bool), '256 to 256'),
        (np.full((2, 3), -1), np.zeros((1, 2, 3), bool), '-1 to -1'),
        (np.zeros((2, 3), int), np.zeros((1, 3, 2), bool), r'\(n, 2, 3\), bool, but is \(1, 3, 2\)'),
        (np.zeros((2, 3), int), np.zeros((1, 2, 3), np.uint8), 'uint8'),
        (np.zeros((2, 3), int), np.zeros((2, 3), bool), r'is \(2, 3\) bool'),
    ],
)
def test_wrong_arrays(labels, masks, message):
    with pytest.raises(ValueError, match=message):
        enhance_labels(labels, masks)


@pytest.fixture
def masks():
    """Random ones, an empty one, a full one and one of a single pixel."""
    made = np.random.default_rng(1).random((6, 11, 8)) < 0.4
    made[3], made[4] = False, True
    made[5] = False
    made[5, 10, 7] = True
    return made


def slow_counts(array):
    """Run lengths down the columns, beginning with zeros."""
    counts, current = [0], False
    for value in array.T.ravel().tolist():
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return counts


class TestFiles:
    @pytest.fixture(autouse=True)
    def _coder(self):
        pytest.importorskip('pycocotools')

    def test_written_masks_are_read_again(self, tmp_path, masks):
        scores = [dict(predicted_iou=np.float32(0.1) * index) for index in range(len(masks))]
        write_masks(tmp_path / 'sub' / 'a.json', masks, scores)
        read = read_masks(tmp_path, 'sub/a', (11, 8))
        assert read.dtype == bool
        np.testing.assert_array_equal(read, masks)
        entries = json.loads((tmp_path / 'sub' / 'a.json').read_text())
        assert [entry['area'] for entry in entries] == masks.sum(axis=(1, 2)).tolist()
        assert entries[5]['bbox'] == [7, 10, 1, 1] and entries[3]['bbox'] == [0, 0, 0, 0]
        assert entries[4]['bbox'] == [0, 0, 8, 11] and entries[4]['predicted_iou'] == pytest.approx(0.4)
        assert entries[0]['segmentation']['size'] == [11, 8] and isinstance(entries[0]['segmentation']['counts'], str)

    @pytest.mark.parametrize('form', [lambda entries: entries, lambda entries: {'image': {}, 'annotations': entries}])
    def test_uncompressed_runs_and_sa_1b(self, tmp_path, masks, form):
        entries = [
            {'segmentation': {'size': [11, 8], 'counts': slow_counts(array)}, 'point_coords': []} for array in masks
        ]
        (tmp_path / 'a.json').write_text(json.dumps(form(entries)))
        np.testing.assert_array_equal(read_masks(tmp_path, 'a', (11, 8)), masks)

    def test_long_runs(self, tmp_path):
        """Runs whose differences take several characters, up and down."""
        array = np.zeros((1, 500, 400), dtype=bool)
        array[0, 100:103, 50:60], array[0, :, 200:] = True, np.random.default_rng(0).random((500, 200)) < 0.5
        array[0, :, 390:] = True
        write_masks(tmp_path / 'a.json', array)
        np.testing.assert_array_equal(read_masks(tmp_path, 'a', (500, 400)), array)

    def test_no_masks_at_all(self, tmp_path):
        write_masks(tmp_path / 'a.json', np.zeros((0, 5, 6), dtype=bool))
        assert read_masks(tmp_path, 'a', (5, 6)).shape == (0, 5, 6)

    def test_wrong_size_names_both(self, tmp_path, masks):
        write_masks(tmp_path / 'a.json', masks)
        with pytest.raises(UserError, match=r'a\.json`: mask 0 has 8 x 11 pixels.*the picture has 11 x 8'):
            read_masks(tmp_path, 'a', (8, 11))

    @pytest.mark.parametrize('keep', [0, 1, 0.3, 0.99])
    def test_truncated(self, tmp_path, masks, keep):
        write_masks(tmp_path / 'a.json', masks)
        text = (tmp_path / 'a.json').read_text().strip()
        (tmp_path / 'a.json').write_text(text[: keep if keep == 1 else int(len(text) * keep)])
        with pytest.raises(UserError, match=r'a\.json` is no JSON.*truncated'):
            read_masks(tmp_path, 'a', (11, 8))

    @pytest.mark.parametrize(
        'counts',
        ['', 'abc', 'T', 'o', 'PPPPPPPPPPPP1', '~~', 'é', [5], [80, 9], [-1, 89], ['a'], [88.0], [True] * 88, 7, None],
    )
    def test_damaged_run_lengths(self, tmp_path, counts):
        """Too short ones above all: pycocotools would leave the rest of the mask uninitialised."""
        (tmp_path / 'a.json').write_text(json.dumps([{'segmentation': {'size': [11, 8], 'counts': counts}}]))
        with pytest.raises(UserError, match=r'a\.json`: the run lengths of mask 0 do not fill 8 x 11'):
            read_masks(tmp_path, 'a', (11, 8))

    @pytest.mark.parametrize('cut', [1, 2, 5])
    def test_cut_run_lengths(self, tmp_path, masks, cut):
        write_masks(tmp_path / 'a.json', masks)
        entries = json.loads((tmp_path / 'a.json').read_text())
        entries[2]['segmentation']['counts'] = entries[2]['segmentation']['counts'][:-cut]
        (tmp_path / 'a.json').write_text(json.dumps(entries))
        with pytest.raises(UserError, match='run lengths of mask 2'):
            read_records(tmp_path / 'a.json', (11, 8))

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            ({}, 'must hold a list of masks'),
            (3, 'must hold a list of masks'),
            ([3], 'mask 0 has no `segmentation`'),
            ([{'segmentation': [[1, 2, 3, 4, 5, 6]]}], 'convert-to-rle'),
            ([{'segmentation': {'size': [5, 6]}}], 'mask 0 has no'),
            ([{'segmentation': {'size': 5, 'counts': [30]}}], 'mask 0 has 5 pixels'),
        ],
    )
    def test_other_json(self, tmp_path, content, message):
        (tmp_path / 'a.json').write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            read_masks(tmp_path, 'a', (5, 6))

    def test_one_entry_per_mask(self, tmp_path, masks):
        with pytest.raises(ValueError, match='1 for 6 masks'):
            write_masks(tmp_path / 'a.json', masks, [{}])
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('dtype', [bool, np.uint8, np.int64])
def test_npz(tmp_path, masks, dtype):
    np.savez_compressed(tmp_path / 'a.npz', masks=masks.astype(dtype) * (1 if dtype is bool else 7))
    read = read_masks(tmp_path, 'a', (11, 8))
    assert read.dtype == bool
    np.testing.assert_array_equal(read, masks)
    with pytest.raises(UserError, match=r'a\.npz`: each mask has 8 x 11 .* 11 x 8'):
        read_masks(tmp_path, 'a', (8, 11))


def test_npz_without_masks(tmp_path):
    np.savez(tmp_path / 'a.npz', masks=np.zeros((0, 4, 5), bool))
    assert read_masks(tmp_path, 'a', (4, 5)).shape == (0, 4, 5)


@pytest.mark.parametrize(
    ('write', 'message'),
    [
        (lambda path: np.savez(path, other=np.zeros(3)), 'no array `masks`'),
        (lambda path: np.savez(path, masks=np.zeros((4, 5))), r'\(4, 5\) float64'),
        (lambda path: np.savez(path, masks=np.array([None])), 'cannot be read'),
        (lambda path: path.write_bytes(b'PK\x03\x04 and no more'), 'truncated'),
        (lambda path: path.write_bytes(b''), 'truncated'),
    ],
)
def test_damaged_npz(tmp_path, write, message):
    write(tmp_path / 'a.npz')
    with pytest.raises(UserError, match=message) as info:
        read_masks(tmp_path, 'a', (4, 5))
    assert 'a.npz' in str(info.value)


def test_folder_of_png(tmp_path, masks):
    (tmp_path / 'a').mkdir()
    for index, array in enumerate(masks):
        Image.fromarray(array.astype(np.uint8) * 255).save(tmp_path / 'a' / f'{index}.png')
    (tmp_path / 'a' / 'metadata.csv').write_text('id,area\n')
    np.testing.assert_array_equal(read_masks(tmp_path, 'a', (11, 8)), masks)
    with pytest.raises(UserError, match=r'0\.png` has 8 x 11 pixels .* 9 x 11'):
        read_masks(tmp_path, 'a', (11, 9))
    Image.fromarray(np.zeros((11, 8, 3), np.uint8)).save(tmp_path / 'a' / '3.png')
    with pytest.raises(UserError, match=r'3\.png` has 3 channels'):
        read_masks(tmp_path, 'a', (11, 8))
    (tmp_path / 'a' / '3.png').write_bytes((tmp_path / 'a' / '2.png').read_bytes()[:50])
    with pytest.raises(UserError, match=r'3\.png` cannot be read'):
        read_masks(tmp_path, 'a', (11, 8))


def test_missing(tmp_path):
    with pytest.raises(MissingFileError, match=r'no masks of b/c .*b/c\.json nor b/c\.npz nor a folder'):
        read_masks(tmp_path, 'b/c', (4, 5))


def test_without_pycocotools(tmp_path, masks, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with pytest.raises(UserError, match=r'pip install pycocotools` \(the extra `coco`\)'):
        write_masks(tmp_path / 'a.json', masks)
    (tmp_path / 'a.json').write_text('[]')
    with pytest.raises(UserError, match='pip install pycocotools'):
        read_masks(tmp_path, 'a', (4, 5))
    np.savez(tmp_path / 'b.npz', masks=masks)
    assert len(read_masks(tmp_path, 'b', (11, 8))) == 6
