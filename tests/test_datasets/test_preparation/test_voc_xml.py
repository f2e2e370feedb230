import pytest

from csrm_plugin.datasets.preparation import labels_from_voc_xml
from csrm_plugin.utils import MissingFileError, UserError

CLASSES = ['cat', 'dog', 'person']


def write(folder, image_id, *objects):
    text = ''.join(f'<object><name>{name}</name>{rest}</object>' for name, rest in objects)
    (folder / f'{image_id}.xml').write_text(f'<annotation><size/>{text}</annotation>')


def test_objects_and_difficult_ones(tmp_path):
    part = '<part><name>head</name></part>'
    write(tmp_path, 'a', ('dog', '<difficult>0</difficult>'), ('dog', ''), ('cat', '<difficult>1</difficult>'))
    write(tmp_path, 'b', ('person', part + '<difficult/>'))
    write(tmp_path, 'c')
    read = labels_from_voc_xml(['a', 'b', 'c'], CLASSES, str(tmp_path))
    assert read == dict(a={'dog', 'cat'}, b={'person'}, c=set())
    assert labels_from_voc_xml(['a'], CLASSES, str(tmp_path), skip_difficult=True) == dict(a={'dog'})


def test_errors_name_the_file(tmp_path):
    write(tmp_path, 'a', ('dgo', ''))
    (tmp_path / 'b.xml').write_text('<annotation><object>')
    with pytest.raises(UserError, match=r"a\.xml names the unknown class 'dgo' \(nearest: dog\)"):
        labels_from_voc_xml(['a'], CLASSES, str(tmp_path))
    with pytest.raises(UserError, match=r'b\.xml is no valid XML'):
        labels_from_voc_xml(['b'], CLASSES, str(tmp_path))
    with pytest.raises(MissingFileError, match=r'1 of 2 annotations .* c\.xml'):
        labels_from_voc_xml(['a', 'c'], CLASSES, str(tmp_path))
