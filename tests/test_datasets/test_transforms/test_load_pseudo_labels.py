import numpy as np
import pytest
from mmseg.registry import TRANSFORMS
from PIL import Image

from csrm_plugin.utils import MissingFileError, UserError


@pytest.fixture
def load(tmp_path):
    """Write a label map and load it for a picture of the same size, with other results where given."""

    def run(labels=((0, 1, 255), (2, 0, 0)), **changes):
        labels = np.array(labels, dtype=np.uint8)
        Image.fromarray(labels).save(tmp_path / 'a.png')
        results = dict(
            seg_map_path=str(tmp_path / 'a.png'),
            num_classes=3,
            label_map=None,
            reduce_zero_label=False,
            seg_fields=[],
            ori_shape=labels.shape,
            img_shape=labels.shape,
        )
        return TRANSFORMS.build(dict(type='LoadPseudoLabels'))(results | changes)

    return run


def test_loads_the_labels_as_they_are(load):
    results = load()
    assert results['gt_seg_map'].tolist() == [[0, 1, 255], [2, 0, 0]] and results['gt_seg_map'].dtype == np.uint8
    assert results['seg_fields'] == ['gt_seg_map']


def test_label_map_drops_and_renumbers_classes(load):
    # A swap shows whether one replacement sees the result of another.
    assert load(label_map={0: 0, 1: 2, 2: 1})['gt_seg_map'].tolist() == [[0, 2, 255], [1, 0, 0]]
    assert load(label_map={0: 0, 1: 255, 2: 1})['gt_seg_map'].tolist() == [[0, 255, 255], [1, 0, 0]]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(num_classes=2), r'a\.png` holds class 2, but there are classes 0 to 1'),
        (dict(ori_shape=(3, 3), img_shape=(3, 3)), r'a\.png` has 3 x 2 pixels .*3 x 3'),
        (dict(img_shape=(4, 6)), 'before the steps that change the size'),
    ],
)
def test_wrong_labels_are_named_in_one_line(load, changes, message):
    with pytest.raises(UserError, match=message) as error:
        load(**changes)
    assert '\n' not in str(error.value)


def test_truncated_and_missing_files(load, tmp_path):
    whole = tmp_path / 'whole.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (50, 60), dtype=np.uint8)).save(whole)
    shape = dict(ori_shape=(50, 60), img_shape=(50, 60))
    assert load(seg_map_path=str(whole), **shape)['gt_seg_map'].shape == (50, 60)
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(UserError, match=r'whole\.png` cannot be read'):
        load(seg_map_path=str(whole), **shape)
    with pytest.raises(MissingFileError, match=r'gone\.png'):
        load(seg_map_path=str(tmp_path / 'gone.png'))


def test_a_data_set_without_label_maps_is_told_the_setting(load):
    # As the methods that learn from image-level labels give it, or a test data set with masks.
    step = TRANSFORMS.build(dict(type='LoadPseudoLabels'))
    for results in (dict(seg_fields=[]), dict(seg_fields=[], seg_map_path='mask.png')):
        with pytest.raises(UserError, match=r'train_dataloader\.dataset\.pseudo_label_dir'):
            step(results)
