import numpy as np

from csrm_plugin.inference.evaluate_labels.scores import score_confusion


def test_large_matrices_are_left_out():
    names = [str(index) for index in range(101)]
    assert 'confusion' not in score_confusion(np.eye(101, 102, dtype=np.int64), names)
    assert 'confusion' in score_confusion(np.eye(100, 101, dtype=np.int64), names[:100])


def test_all_uncertain():
    report = score_confusion(np.array([[0, 0, 3], [0, 0, 2]]), ['background', 'cat'])
    assert (report['miou'], report['fn'], report['coverage'], report['miou_certain']) == (0, 100, 0, None)
