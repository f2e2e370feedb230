import numpy as np
import pytest
import torch
from PIL import Image

from csrm_plugin.functional import normalize_cam
from csrm_plugin.inference.predictor import Prediction
from csrm_plugin.inference.pseudo_labels.maps import labels_of, make_task
from csrm_plugin.inference.pseudo_labels.settings import LabelSettings, crf_options
from csrm_plugin.refine import DenseCRF, dense_crf
from csrm_plugin.utils import UserError

CAM = torch.tensor([[[4.0, 2.0, -1.0]], [[0.0, 9.0, 3.0]], [[1.0, 1.0, 2.0]]])  # (C, h, w) = (3, 1, 3)


INFO = dict(img_path='none.jpg', img_id='none', image_labels=np.array([1, 0, 1], dtype=np.float32))


def settings(**given):
    return LabelSettings(**{'source': 'cam', 'threshold': 0.5, **given})


def labels(prediction, **given):
    how = settings(**given)
    return labels_of(make_task(prediction, INFO, [('x.png', how)], [[0, 0, 0]] * 4), how).tolist()


def prediction(**given):
    return Prediction(**{**dict(cam=CAM, probs=None, scores=None, tile=None), **given})


def test_cam_labels_by_hand():
    # Of the picture's classes 0 and 2, normalised: [1, .5, 0] and [.5, .5, 1]; class 1, the strongest, is not there.
    assert labels(prediction()) == [[1, 0, 3]]  # the background wins the tie at 0.5
    assert labels(prediction(), threshold=0.4) == [[1, 1, 3]]
    assert labels(prediction(), threshold=0.5, bg_threshold=0.4) == [[1, 255, 3]]
    assert labels(prediction(), threshold=1.0) == [[0, 0, 0]]


def test_without_labels_the_classifier_says_which_classes_there_are():
    seen = prediction(scores=torch.tensor([0.1, 0.9, 0.2]))
    assert labels(seen, restrict='classifier') == [[0, 2, 0]]
    assert labels(seen, restrict='classifier', score_threshold=0.95) == [[0, 0, 0]]


def test_segmentation_labels_by_hand():
    probs = torch.tensor([[[0.30, 0.10, 0.05]], [[0.20, 0.15, 0.15]], [[0.40, 0.60, 0.20]], [[0.10, 0.15, 0.60]]])
    seg = prediction(probs=probs)
    # Without class 1 (label 2): [.5, .333, .167], [.25, .375, .375] and [.0625, .1875, .75].
    assert labels(seg, source='seg', threshold=None) == [[0, 1, 3]]
    assert labels(seg, source='seg', threshold=0.6) == [[255, 255, 3]]
    assert labels(seg, source='seg', threshold=None, restrict='none') == [[2, 2, 3]]


def test_a_picture_without_classes_is_background():
    empty = dict(INFO, image_labels=np.zeros(3, dtype=np.float32))
    for source in ('cam', 'seg'):
        how = settings(source=source, threshold=0.5 if source == 'cam' else None, crf=None)
        task = make_task(prediction(probs=torch.full((4, 1, 3), 0.25)), empty, [('x.png', how)], [[0, 0, 0]] * 4)
        assert (labels_of(task, how) == 0).all()


def test_refined_labels_are_those_of_the_public_functions(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    image[:, 5:] //= 4
    Image.fromarray(image).save(tmp_path / 'p.png')
    info = dict(INFO, img_path=str(tmp_path / 'p.png'))
    cam, probs = torch.from_numpy(rng.normal(size=(3, 12, 10))).float(), torch.rand(4, 12, 10).softmax(dim=0)
    options = crf_options(dict(iterations=3))

    how = settings(crf=options)
    ours = labels_of(make_task(prediction(cam=cam), info, [('x.png', how)], [[0, 0, 0]] * 4), how)
    own = normalize_cam(cam[None])[0, [0, 2]].numpy()
    hard = np.concatenate([np.full((1, 12, 10), 0.5, np.float32), own]).argmax(axis=0)
    expected = DenseCRF(iterations=3).refine_labels([image], [hard[None]], [3])[0][0]
    assert (ours == np.array([0, 1, 3])[expected]).all() and (ours != np.array([0, 1, 3])[hard]).any()

    own = probs[[0, 1, 3]]
    soft = dense_crf(image, (own / own.sum(dim=0)).numpy(), iterations=3).argmax(axis=0)
    hard = DenseCRF(iterations=3).refine_labels([image], [own.argmax(dim=0)[None].numpy()], [3])[0][0]
    assert (soft != hard).any()
    for unary, expected in ((None, hard), ('labels', hard), ('probs', soft)):
        how = settings(source='seg', threshold=None, crf=dict(options, unary=unary) if unary else options)
        ours = labels_of(make_task(prediction(probs=probs), info, [('x.png', how)], [[0, 0, 0]] * 4), how)
        assert (ours == np.array([0, 1, 3])[expected]).all()


def test_a_model_without_the_source_is_told():
    with pytest.raises(UserError, match='no segmentation branch; use --source cam'):
        labels(prediction(), source='seg', threshold=None)
    with pytest.raises(UserError, match='gives no CAMs; use --source seg or --source propagated'):
        labels(prediction(cam=None, probs=torch.full((4, 1, 3), 0.25), propagated=CAM))
    with pytest.raises(UserError, match=r'propagates no CAMs; use --source cam$'):
        labels(prediction(), source='propagated')
