from csrm_plugin.inference.evaluate_labels.classes import KNOWN_CLASSES
from csrm_plugin.utils import write_json

NAMES = ['background', 'cat', 'dog', 'kite', 'tent']  # nothing is ever a kite


def test_class_names_from_everywhere(folder, tmp_path, capsys):
    folder.add('a', [[0, 1, 255]], [[2, 1, 3]])
    assert folder.score()['context']['classes'] == ['background', 'class_1', 'class_2', 'class_3']
    note = [line for line in capsys.readouterr().err.splitlines() if 'note' in line]
    assert len(note) == 1 and '4 classes' in note[0]
    write_json(folder.gt.parent / 'image_labels.json', dict(classes=['a', 'b', 'c'], labels={}))
    assert folder.score()['context']['classes'] == ['background', 'a', 'b', 'c']
    write_json(folder.gt.parent / 'image_labels_some.json', dict(classes=['d', 'e', 'f'], labels={}))
    assert folder.score()['context']['classes'] == ['background', 'd', 'e', 'f']
    write_json(folder.pred / 'labels.json', dict(classes=['ground', 'x', 'y', 'z'], palette=[[0, 0, 0]] * 4))
    assert folder.score()['context']['classes'] == ['ground', 'x', 'y', 'z']
    write_json(tmp_path / 'mine.json', dict(classes=['g', 'h', 'i']))
    assert folder.score(classes=str(tmp_path / 'mine.json'))['context']['classes'] == ['background', 'g', 'h', 'i']
    assert 'note' not in capsys.readouterr().err


def test_classes_of_the_data_sets(folder):
    folder.add('a', [[0, 1]], [[0, 1]])
    counts = {name: len(folder.score(classes=name)['iou']) for name in KNOWN_CLASSES}
    assert counts == dict(voc=21, coco=81, msrc=16, voc_animals=7, demo=7)
    assert folder.score(classes='voc12') != folder.score(classes='coco14')
