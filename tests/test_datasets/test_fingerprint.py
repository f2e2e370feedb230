import pytest

from csrm_plugin.datasets.fingerprint import data_fingerprint
from csrm_plugin.utils import MissingFileError


@pytest.fixture
def data(tmp_path):
    """A data root with three pictures, one in a sub-folder, and a function that makes another one."""

    def make(name):
        folder = tmp_path / name
        for path in ('JPEGImages/sub', 'SegmentationClass/sub', 'ImageSets/Segmentation'):
            (folder / path).mkdir(parents=True)
        for image_id in ('a', 'b', 'sub/c', 'other'):
            (folder / 'JPEGImages' / f'{image_id}.jpg').write_bytes(b'12')
            (folder / 'SegmentationClass' / f'{image_id}.png').write_bytes(b'123')
        (folder / SPLIT).write_text('a\nb\nsub/c\n')
        (folder / 'labels.json').write_text('{}')
        return folder

    return make


SPLIT = 'ImageSets/Segmentation/train.txt'


def fingerprint(root, **options):
    return data_fingerprint(str(root), SPLIT, **options)


def test_fingerprint_does_not_depend_on_the_place(data):
    a, b = data('one'), data('two')
    assert fingerprint(a) == fingerprint(b) == data_fingerprint(str(a), str(b / SPLIT))
    assert fingerprint(a)['pictures'] == 3
    assert len(fingerprint(a)['hash']) == 64


@pytest.mark.parametrize(
    ('path', 'content', 'seen'),
    [
        ('JPEGImages/sub/c.jpg', '1234', {'sizes', 'full', 'masks', 'labels'}),
        ('JPEGImages/b.jpg', '21', {'full'}),
        ('JPEGImages/other.jpg', '1234', set()),
        ('SegmentationClass/a.png', '1', {'masks'}),
        ('labels.json', '{ }', {'labels'}),
        (SPLIT, 'b\na\nsub/c\n', {'sizes', 'full', 'masks', 'labels'}),
        (SPLIT, 'a\nb\n', {'sizes', 'full', 'masks', 'labels'}),
    ],
)
def test_fingerprint_sees_what_it_is_asked_to(data, path, content, seen):
    root = data('one')
    options = {
        'sizes': {},
        'full': {'full': True},
        'labels': {'label_file': 'labels.json'},
        'masks': {'folders': (('JPEGImages', '.jpg'), ('SegmentationClass', '.png'))},
    }
    before = {name: fingerprint(root, **option) for name, option in options.items()}
    assert len({entry['hash'] for entry in before.values()}) == 4
    (root / path).write_text(content)
    assert {name for name, option in options.items() if fingerprint(root, **option) != before[name]} == seen


def test_fingerprint_names_what_is_missing(data):
    root = data('one')
    (root / 'JPEGImages' / 'sub' / 'c.jpg').unlink()
    with pytest.raises(MissingFileError, match=r'1 of 3 files .* sub/c\.jpg'):
        fingerprint(root)
    with pytest.raises(MissingFileError, match='Masks'):
        fingerprint(root, folders=(('Masks', '.png'),))
    with pytest.raises(MissingFileError, match=r'none\.json'):
        fingerprint(data('two'), label_file='none.json')
