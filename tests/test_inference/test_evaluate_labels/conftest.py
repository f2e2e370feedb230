import numpy as np
import pytest
from PIL import Image

from csrm_plugin.inference.evaluate_labels import evaluate_label_folder

SIZES = [(7, 9), (5, 5), (8, 3), (6, 11), (1, 4)]


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=np.uint8)).save(path)


def save_cams(path, cams, classes):
    path.parent.mkdir(parents=True, exist_ok=True)
    cams, classes = np.asarray(cams, dtype=np.float16), np.asarray(classes, dtype=np.int64)
    np.savez_compressed(path, cams=cams, classes=classes)


class Folder:
    """Predictions, masks and a list of the pictures in a folder."""

    def __init__(self, path):
        self.pred, self.gt, self.split = path / 'pred', path / 'data' / 'masks', path / 'data' / 'some.txt'

    def add(self, name, truth, prediction=None, cams=None, classes=(), cam_folder='cams'):
        save(self.gt / f'{name}.png', truth)
        if prediction is not None:
            save(self.pred / f'{name}.png', prediction)
        if cams is not None:
            save_cams(self.pred / cam_folder / f'{name}.npz', cams, classes)
        known = self.split.read_text().split() if self.split.exists() else []
        self.split.write_text('\n'.join([*known, name]))

    def score(self, **settings):
        return evaluate_label_folder(str(self.pred), str(self.gt), str(self.split), **settings)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def random_folder(folder):
    """Five pictures with label maps and CAMs, 255 in truth and label maps, CAMs that tie with thresholds."""
    rng = np.random.default_rng(3)
    folder.pictures = {}
    for index, size in enumerate(SIZES):
        truth = rng.choice([0, 1, 2, 4, 255], size)
        prediction = np.where(rng.random(size) < 0.5, truth, rng.choice([0, 1, 2, 255], size))
        classes = rng.permutation(4)[: index % 4]
        cams = rng.integers(0, 11, (len(classes), *size)) / 10
        folder.add(f'p{index}', truth, prediction, cams, classes)
        folder.pictures[f'p{index}'] = truth, prediction, cams.astype(np.float16), classes
    return folder
