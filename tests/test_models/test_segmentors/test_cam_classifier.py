import pytest
import torch
from mmengine.optim import OptimWrapper


def test_loss_is_that_of_the_pooled_cam(build, make_batch):
    model = build('CAMClassifier')
    data = model.data_preprocessor(make_batch(), True)
    losses = model.loss(**data)
    labels = torch.stack([sample.gt_image_labels.multi_hot for sample in data['data_samples']])
    logits = model.cam_head.conv(model.backbone(data['inputs'])[1]).mean(dim=(2, 3))
    assert losses.keys() == {'loss_c'}
    torch.testing.assert_close(
        losses['loss_c'], torch.nn.functional.multilabel_soft_margin_loss(logits, labels), rtol=1e-5, atol=1e-6
    )


def test_train_steps_lower_the_loss(build, make_batch):
    model, batch = build('CAMClassifier'), make_batch()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9))
    losses = [model.train_step(batch, wrapper)['loss'].item() for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


def test_prediction_worked_by_hand(build, monkeypatch):
    model = build('CAMClassifier', test_cfg=dict(cam_threshold=0.4)).eval()
    # Means 2, 1.25, -1, 0.5: the third class is not seen. Maxima 4, 3: at threshold 0.4 a value of 1.6 or 1.2 is none.
    cam = torch.tensor([[[4.0, 1.6], [1.6, 0.8]], [[0, 2.0], [0, 3.0]], [[-4, 1.0], [0, -1]], [[0, 0], [2.0, 0]]])
    monkeypatch.setattr(model, '_forward', lambda inputs: cam[None])
    (sample,) = model.predict(torch.zeros(1, 3, 2, 2))
    assert sample.cam_logits.data.equal(cam)
    assert sample.pred_image_labels.scores.tolist() == pytest.approx(
        torch.tensor([2.0, 1.25, -1.0, 0.5]).sigmoid().tolist()
    )
    assert sample.pred_sem_seg.data.tolist() == [[[1, 2], [4, 2]]]
    assert 'seg_logits' not in sample


def test_neck(build, make_batch):
    model = build('CAMClassifier')
    model.neck = torch.nn.Identity()
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 4, 4, 4)
