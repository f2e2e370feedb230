from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import LabelData, PixelData
from mmseg.structures import SegDataSample

from csrm_plugin.engine.hooks import CollapseAlarmHook
from csrm_plugin.engine.hooks.collapse_alarm_hook import diagnose
from csrm_plugin.models.losses import MultiLabelSoftMarginLoss
from csrm_plugin.models.segmentors import NonFiniteLossError
from csrm_plugin.utils import UserError

HEALTHY = {'reliable/s': 0.5, 'pseudo/foreground': 0.2, 'student/foreground': 0.15, 'contrast/chance': 0.4}


def run(hook, *batches, start=0):
    """Warnings by iteration; each batch changes the healthy statistics."""
    warnings = {}
    runner = SimpleNamespace()
    runner.logger = SimpleNamespace(warning=lambda text: warnings.setdefault(runner.iter, []).append(text))
    for runner.iter, changes in enumerate(batches, start):
        outputs = {name: torch.tensor(value) for name, value in (HEALTHY | changes).items()}
        hook.after_train_iter(runner, 0, outputs=outputs)
    return warnings


@pytest.mark.parametrize(
    ('changes', 'finding', 'cause'),
    [
        ({'reliable/s': 0.01}, 'labels cover almost nothing', 'model.pseudo_label.fg_threshold'),
        ({'pseudo/foreground': 0.001}, 'pseudo labels are background only', 'load_from'),
        ({'student/foreground': 0.0}, 'the segmentation predicts background only', 'WarmupHook'),
        ({'contrast/chance': 0.99}, 'the representation tells nothing apart', 'representation_head.lr_mult'),
    ],
)
def test_findings_are_in_the_log_with_the_likely_cause(changes, finding, cause):
    warnings = run(CollapseAlarmHook(grace_iters=3, window=1), *[changes] * 5)
    (text,) = warnings.pop(2)
    assert 'COLLAPSE ALARM, iteration 3' in text and finding in text and cause in text
    assert warnings == {}, 'a finding that lasts is not repeated at once'


@pytest.mark.parametrize('needs_one', [True, False])
@pytest.mark.parametrize('started_from', ['load_from', 'resume', None])
def test_a_start_without_a_classifier_is_said(started_from, needs_one):
    warnings = []
    logger, model = SimpleNamespace(warning=warnings.append), SimpleNamespace(starts_from_classifier=needs_one)
    CollapseAlarmHook().before_train(SimpleNamespace(cfg={started_from: 'file.pth'}, logger=logger, model=model))
    assert len(warnings) == (started_from is None and needs_one)


def test_a_healthy_run_says_nothing():
    assert run(CollapseAlarmHook(grace_iters=0, window=5), *[{}] * 50) == {}


def test_a_single_batch_is_no_collapse():
    batches = [{}] * 10 + [{'student/foreground': 0.0, 'pseudo/foreground': 0.0}] * 2 + [{}] * 20
    assert run(CollapseAlarmHook(grace_iters=0, window=20), *batches) == {}


def test_a_lasting_finding_is_repeated_now_and_then():
    warnings = run(CollapseAlarmHook(grace_iters=0, window=1, repeat_iters=10), *[{'reliable/s': 0.0}] * 25)
    assert list(warnings) == [0, 10, 20]


def test_a_late_collapse_is_found():
    warnings = run(CollapseAlarmHook(grace_iters=5, window=4), *[{}] * 30, *[{'student/foreground': 0.0}] * 30)
    assert len(warnings) == 1 and 30 < min(warnings) < 50


def test_a_statistic_that_appears_after_the_warmup_has_a_grace_of_its_own():
    hook, warnings = CollapseAlarmHook(grace_iters=5, window=1), []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=lambda text: warnings.append(runner.iter)))
    for runner.iter in range(30):
        late = {'contrast/chance': torch.tensor(1.0)} if runner.iter >= 20 else {}
        hook.after_train_iter(runner, 0, outputs=late)
    assert warnings == [24]
    assert list(run(CollapseAlarmHook(grace_iters=5, window=1), *[{'contrast/chance': 1.0}] * 3, start=100)) == [100]


def test_models_without_these_statistics():
    hook = CollapseAlarmHook(grace_iters=0)
    for outputs in (None, {}, {'loss': torch.tensor(1.0)}):
        hook.after_train_iter(SimpleNamespace(iter=0), 0, outputs=outputs)
    hook.after_val_epoch(SimpleNamespace(iter=0), metrics={'cls/mAP': 50.0})


def test_validation():
    warnings = []
    runner = SimpleNamespace(iter=200, logger=SimpleNamespace(warning=warnings.append))
    hook = CollapseAlarmHook(grace_iters=100)
    hook.after_val_epoch(runner, metrics={'seg/foreground': 20.0})
    hook.after_val_epoch(runner, metrics=None)
    assert warnings == []
    hook.after_val_epoch(runner, metrics={'seg/foreground': 0.5})
    assert 'predicts background only' in warnings[0] and '0.5%' in warnings[0]
    runner.iter = 50
    CollapseAlarmHook(grace_iters=100).after_val_epoch(runner, metrics={'seg/foreground': 0.0})
    assert len(warnings) == 1


def test_diagnosis_names_the_first_cause_only():
    """Labels that cover nothing leave no foreground either, and then nothing to learn from."""
    everything = {'reliable/s': 0.0, 'pseudo/foreground': 0.0, 'student/foreground': 0.0}
    assert list(diagnose(everything)) == ['labels cover almost nothing']
    assert diagnose(HEALTHY) == {} and diagnose({}) == {}
    assert diagnose({'reliable/s': 0.3}, min_covered=0.4)


@pytest.mark.parametrize('options', [dict(window=0), dict(repeat_iters=0)])
def test_settings(options):
    with pytest.raises(UserError, match='at least 1'):
        CollapseAlarmHook(**options)


def sample(labels=None, truth=None):
    made = SegDataSample()
    if labels is not None:
        made.set_field(LabelData(multi_hot=torch.tensor(labels).float()), 'gt_image_labels', dtype=LabelData)
    if truth is not None:
        made.gt_sem_seg = PixelData(data=torch.tensor(truth)[None])
    return made


class Training:
    """As much of a Runner as the hook asks for; one of six classes is in half of the pictures: chance is 0.693 / 2."""

    def __init__(self, *hooks, lr=0.01, **model):
        self.iter, self.hooks, self.warnings = 0, hooks, []
        self.cfg = {'optim_wrapper': {'optimizer': {'lr': 0.01}}, 'load_from': 'some.pth'}
        self.logger = SimpleNamespace(warning=self.warnings.append)
        self.model = SimpleNamespace(loss_c=MultiLabelSoftMarginLoss(), parameters=list, **model)
        self.group = {'lr': lr}
        self.optim_wrapper = SimpleNamespace(param_groups=[self.group])
        self.summary = {}
        backend = SimpleNamespace(add_summary=self.summary.update)
        self.visualizer = SimpleNamespace(_vis_backends={'a': object(), 'b': backend})
        self.batch = dict(data_samples=[sample([1, 1]), sample([0, 1])])
        self.call('before_train')

    def call(self, name, *args, **kwargs):
        for hook in self.hooks:
            getattr(hook, name)(self, *args, **kwargs)

    def train(self, *losses, name='loss_c', **more):
        for value in losses:
            outputs = {name: torch.tensor(value, requires_grad=True)} | more
            self.call('after_train_iter', 0, self.batch, outputs)
            self.iter += 1

    def validate(self, **metrics):
        self.call('after_val_epoch', {name.replace('_', '/', 1): value for name, value in metrics.items()})

    def end(self):
        self.call('after_train')


CHANCE = 0.3466


def test_a_classifier_at_chance_is_said_once_and_at_the_end():
    hook = CollapseAlarmHook(grace_iters=10, window=5)
    training = Training(hook)
    training.train(*[CHANCE] * 30)
    (text,) = training.warnings
    assert text.startswith(
        'COLLAPSE ALARM, iteration 10: the classifier learns nothing. `loss_c` is 0.347, and always '
    )
    assert 'how often each class occurs costs 0.347' in text and '`optim_wrapper.optimizer.lr` is 0.01' in text
    training.end()
    assert len(training.warnings) == 2 and training.warnings[1].startswith('COLLAPSE ALARM, end of the training: the ')
    (alarm,) = hook.alarms
    assert (alarm['first'], alarm['last'], alarm['at_end']) == (10, 30, True) and alarm['text'] in text
    assert training.summary == {'alarms': 'the classifier learns nothing (iteration 10)'}


def test_a_classifier_that_learns_raises_nothing():
    training = Training(CollapseAlarmHook(grace_iters=10, window=5))
    training.train(*[0.69] * 5, *[0.3] * 30)
    training.validate(cls_mAP=60.0, cls_chance=21.0, cam_mIoU=30.0, cam_background_only=10.0, cam_foreground=20.0)
    training.end()
    assert training.warnings == [] and training.summary == {}


def test_a_loss_that_fell_and_rose_again():
    hook = CollapseAlarmHook(grace_iters=10, window=5)
    training = Training(hook)
    training.train(*[0.1] * 30, *[0.5] * 30, *[0.1] * 60)
    training.end()
    (text,) = training.warnings
    assert 'It had been down to 29% of that' in text and hook.alarms[0]['at_end'] is False


def test_iterations_in_which_the_learning_rate_rises_do_not_count():
    training = Training(CollapseAlarmHook(grace_iters=10, window=5), lr=1e-6)
    for _ in range(40):
        training.train(CHANCE)
        training.group['lr'] *= 1.1
    assert training.warnings == []
    for _ in range(11):
        training.train(CHANCE)
        training.group['lr'] *= 0.9
    assert len(training.warnings) == 1


def test_a_loss_that_does_not_say_what_chance_is_and_pictures_without_labels_are_not_judged():
    for loss, batch in (
        (torch.nn.Identity(), None),
        (MultiLabelSoftMarginLoss(), {}),
        (MultiLabelSoftMarginLoss(), []),
    ):
        training = Training(CollapseAlarmHook(grace_iters=0, window=1))
        training.model.loss_c = loss
        training.batch = training.batch if batch is None else batch
        training.train(9.0, 9.0)
        training.end()
        assert training.warnings == []


def test_labels_that_are_all_alike():
    training = Training(CollapseAlarmHook(grace_iters=2, window=1))
    training.batch = dict(data_samples=[sample([0, 0])])
    training.train(0.1, 0.1)
    assert 'image-level labels say nothing' in training.warnings[0] and 'prepare_data.py check' in training.warnings[0]


def test_validations_of_every_kind():
    training = Training(CollapseAlarmHook(grace_iters=2, window=1))
    training.model.loss_c = None
    training.batch = dict(data_samples=[sample(truth=[[0, 0, 255], [0, 0, 0]])])
    training.train(1.0, 1.0, 1.0, name='decode.loss_ce')
    training.validate(seg_foreground=0.0, seg_largest=100.0, seg_mIoU=10.0, seg_background_only=10.0)
    (text,) = training.warnings
    assert 'the segmentation predicts background only. 0.0% of' in text
    assert '0.0% of the pixels of the label maps' in text and '`train_dataloader.dataset.pseudo_label_dir`' in text


def test_a_short_training_is_judged_at_its_end():
    training = Training(CollapseAlarmHook(window=5))
    training.train(*[0.7] * 6)
    training.validate(cls_mAP=20.0, cls_chance=21.0)
    assert training.warnings == []
    training.end()
    assert [text.split('. ')[0] for text in training.warnings] == [
        'COLLAPSE ALARM, end of the training: the classifier learns nothing',
        'COLLAPSE ALARM, end of the training: the classifier tells no classes apart',
    ]
    training = Training(CollapseAlarmHook(window=5))
    training.train(*[0.7] * 4)
    training.end()
    assert training.warnings == [], 'four iterations are no training'


def test_two_of_them_speak_once():
    """A config from before the hook was one of the default hooks lists it among its own."""
    default, own = CollapseAlarmHook(grace_iters=3, window=1), CollapseAlarmHook(grace_iters=7, window=1)
    training = Training(default, own)
    training.train(*[0.7] * 9)
    training.validate(cls_mAP=20.0, cls_chance=21.0)
    training.end()
    assert len(training.warnings) == 4 and 'iteration 7' in training.warnings[0]
    assert default.alarms == [] and len(own.alarms) == 2


def test_a_loss_that_is_not_finite_stops_a_run_whose_weights_it_has_spoilt():
    weights = torch.ones(3)
    training = Training(CollapseAlarmHook(window=1))
    training.model.parameters = lambda: [weights]
    training.train(1.0, float('inf'), name='decode.loss_ce')
    assert 'the loss is not finite. decode.loss_ce; the weights are whole' in training.warnings[0]
    weights[1] = float('nan')
    with pytest.raises(NonFiniteLossError, match=r'\(decode\.loss_ce\).*stops at iteration 3.*optim_wrapper'):
        training.train(float('nan'), name='decode.loss_ce')


def test_parts_that_wait_for_the_end_of_the_warmup_are_not_judged_in_it():
    training = Training(CollapseAlarmHook(grace_iters=0, window=1), warmup_factor=0.0)
    scores = dict(affinity_AUC=50.0, seg_mIoU=2.0, seg_background_only=10.0, seg_foreground=60.0, seg_largest=99.9)
    training.validate(**scores)
    assert training.warnings == []
    training.model.warmup_factor = 0.1
    training.validate(**scores)
    assert [text.split(': ')[1].split('.')[0] for text in training.warnings] == [
        'the segmentation predicts one class only',
        'the affinity tells nothing apart',
    ]
