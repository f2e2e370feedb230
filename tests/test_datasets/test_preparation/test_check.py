import os

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.datasets.preparation import check_data
from csrm_plugin.utils import MissingFileError


def one_error(folder, **kwargs):
    """The only error; a second one would mean that one damage is reported twice."""
    report = check_data(folder.root, **kwargs)
    assert len(report.errors) == 1 and not report.ok, str(report)
    assert f'error: {report.errors[0]}' in str(report)
    return report.errors[0]


def test_sound_folder(voc_folder):
    report = check_data(voc_folder.root)
    assert report.ok and report.errors == []
    assert report.facts == [
        "split 'train': 3 pictures; with masks; 1.00 classes per picture; pictures per class: cat 2, dog 1",
        "split 'val': 1 pictures; with masks; 1.00 classes per picture; pictures per class: dog 1",
    ]
    assert report.warnings == [
        "pictures of split 'train' without any class in " + voc_folder.path('image_labels.json') + ': 1, for example c',
        "classes that no picture of split 'val' has: 1, for example cat",
    ]


def test_truncated_picture(voc_folder):
    path = voc_folder.path('JPEGImages', 'b.jpg')
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    Image.new('L', (80, 60), 1).save(voc_folder.path('SegmentationClass', 'b.png'))
    with open(path, 'r+b') as file:
        file.truncate(os.path.getsize(path) - 200)
    assert Image.open(path).size == (80, 60), 'the header must be whole for this test'
    assert f'cannot be read to the end: 1, for example {path}' in one_error(voc_folder)
    assert check_data(voc_folder.root, decode=False).ok


def test_picture_that_is_none(voc_folder):
    with open(voc_folder.path('JPEGImages', 'b.jpg'), 'w') as file:
        file.write('<html>404</html>')
    assert 'b.jpg' in one_error(voc_folder)


def test_mask_value_out_of_range(voc_folder):
    voc_folder.add_picture('b', [[0, 3, 2, 1, 254, 255, 0, 0]])
    error = one_error(voc_folder)
    assert 'values other than 0 to 2 or 255: 1' in error and 'b.png (values [3, 254])' in error


def test_size_mismatch(voc_folder):
    Image.new('L', (6, 8)).save(voc_folder.path('SegmentationClass', 'c.png'))
    assert 'c.png (6x8, picture 8x6)' in one_error(voc_folder)


def test_missing_picture_and_mask(voc_folder):
    os.remove(voc_folder.path('JPEGImages', 'a.jpg'))
    error = one_error(voc_folder)
    assert voc_folder.path('JPEGImages') in error and error.endswith('1, for example a.jpg')
    voc_folder.add_picture('a')
    os.remove(voc_folder.path('SegmentationClass', 'a.png'))
    assert "masks of split 'train' missing" in one_error(voc_folder)


def test_broken_and_coloured_masks(voc_folder):
    Image.new('RGB', (8, 6)).save(voc_folder.path('SegmentationClass', 'c.png'))
    assert 'c.png holds RGB pixels' in one_error(voc_folder)
    with open(voc_folder.path('SegmentationClass', 'c.png'), 'wb') as file:
        file.write(b'\x89PNG\r\n\x1a\n')
    assert 'c.png cannot be read' in one_error(voc_folder)


def test_labels_without_ids_and_other_classes(voc_folder):
    voc_folder.add_labels('image_labels_val.json', ['cat', 'dog'], dict(a=['cat']))
    assert 'image_labels_val.json: 1, for example d' in one_error(voc_folder)
    assert 'order differs' in one_error(voc_folder, splits=['train'], classes=['dog', 'cat'])
    assert 'differ in cow, dog' in one_error(voc_folder, splits=['train'], classes=['cat', 'cow'])
    os.remove(voc_folder.path('image_labels.json'))
    assert "split 'train' has no label file" in one_error(voc_folder, splits=['train'])
    assert 'gone.json' in check_data(voc_folder.root, label_file='gone.json').errors[0]


def test_one_bad_list_does_not_hide_the_others(voc_folder):
    voc_folder.add_split('train', ['a', 'a'])
    os.remove(voc_folder.path('JPEGImages', 'd.jpg'))
    errors = check_data(voc_folder.root).errors
    assert len(errors) == 2 and 'more than once' in errors[0] and 'd.jpg' in errors[1]


def test_overlap_of_training_and_validation(voc_folder):
    voc_folder.add_split('val', ['d', 'a'])
    assert "in both split 'train' and split 'val': 1, for example a" in one_error(voc_folder)
    voc_folder.add_split('val', ['d'])
    voc_folder.add_split('trainval', ['a', 'b', 'c', 'd'])
    voc_folder.add_split('train_aug', ['a', 'b'])
    assert check_data(voc_folder.root).ok


def test_labels_against_masks(voc_folder):
    voc_folder.add_labels('image_labels.json', ['cat', 'dog'], dict(a=['cat', 'dog'], b=['cat'], c=['cat'], d=['dog']))
    report = check_data(voc_folder.root, splits=['train'])
    assert report.ok
    assert [text.split(': ', 1)[1] for text in report.warnings] == [
        '1, for example b (label lacks dog)',
        '2, for example a (mask lacks dog), c (mask lacks cat)',
    ]


def test_split_that_can_only_be_predicted(voc_folder):
    voc_folder.add_picture('e')
    voc_folder.add_split('test', ['e'])
    report = check_data(voc_folder.root, splits=['test'])
    assert report.ok and 'can only be predicted' in str(report)


def test_missing_root():
    with pytest.raises(MissingFileError, match='Data root gone does not exist'):
        check_data('gone')


def test_redrawn_voc_boxes_name_fewer_objects_than_the_masks(shared, tmp_path):
    from csrm_plugin.datasets.preparation import labels_from_voc_xml, resolve_classes, write_labels

    root = str(shared / 'data' / 'voc12_mini' / 'VOCdevkit' / 'VOC2012')
    ids, classes = ['2011_000003', '2011_000006'], resolve_classes(['voc12'])
    labels = labels_from_voc_xml(ids, classes, os.path.join(root, 'Annotations'))
    write_labels(str(tmp_path / 'xml.json'), classes, labels)
    report = check_data(root, ['train'], label_file=str(tmp_path / 'xml.json'))
    assert report.ok
    assert '2011_000003 (label lacks bottle), 2011_000006 (label lacks chair, sofa)' in str(report)
    assert not [text for text in check_data(root, ['train']).warnings if 'mask' in text]
