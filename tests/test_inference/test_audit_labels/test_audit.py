"""The audit against a slow loop: the labeler of the training itself, one picture and setting at a time."""

import json

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmseg.registry import DATASETS
from PIL import Image

from csrm_plugin.config.load import load_config
from csrm_plugin.inference.pseudo_labels import make_pseudo_labels
from csrm_plugin.models.checkpoints.prediction import load_model
from csrm_plugin.models.segmentors import PseudoLabeler, PseudoLabelSettings
from csrm_plugin.utils import IGNORE_INDEX, UserError, write_json

FG, BG = (0.2, 0.5, 0.8), (0.1, 0.5)
PADDED = {'model.data_preprocessor.test_cfg': dict(size_divisor=32)}


class SlowLoop:
    """Confusion (7, 8) of one setting, pixel by pixel; the labels are those of :class:`PseudoLabeler`."""

    def __init__(self, config, checkpoint, options):
        cfg = load_config(config, options)
        self.model = load_model(cfg, checkpoint)
        self.dataset = DATASETS.build(cfg.test_dataloader.dataset)

    def cam(self, view):
        network = self.model.cam_network
        return network.cam_head(network.extract_feat(view))

    @torch.no_grad()
    def count(self, settings):
        labeler = PseudoLabeler(PseudoLabelSettings(**settings), self.model.align_corners)
        model, matrix = self.model, np.zeros((7, 8), dtype=np.int64)
        for index in range(len(self.dataset)):
            item = self.dataset[index]
            truth = item['data_samples'].gt_sem_seg.data[0].numpy()
            data = model.data_preprocessor(pseudo_collate([item]), False)
            inputs, samples = data['inputs'], data['data_samples']
            labels, valid = model.image_labels(samples, 'cpu'), model.valid_pixels(inputs, samples)
            made = labeler.from_views(self.cam, inputs, labels, model.pictures, valid)
            # The mask has the size of the picture in the input, which padding makes longer at the right and below.
            whole = torch.nn.functional.interpolate(
                made[:, None].double(), tuple(inputs.shape[2:]), mode='nearest-exact'
            )
            labels = whole[0, 0, : truth.shape[0], : truth.shape[1]].long().numpy()
            for true, label in zip(truth.ravel(), labels.ravel()):
                if true != IGNORE_INDEX:
                    matrix[true, 7 if label == IGNORE_INDEX else label] += 1
        return matrix


def check(row, matrix, names):
    """The scores of a row are those of a confusion matrix, by formulas written down once more."""
    labelled, everything = matrix[:, :7].sum(), matrix.sum()
    assert row['coverage'] == pytest.approx(100 * labelled / everything, abs=1e-3)
    ious, by_hand = [], {}
    for index, name in enumerate(names):
        hit = matrix[index, index]
        union = matrix[index, :7].sum() + matrix[:, index].sum() - hit
        occurs = matrix[index].sum() + matrix[:, index].sum() > 0
        by_hand[name] = 100 * hit / max(union, 1) if occurs else None
        ious += [by_hand[name]] if occurs else []
    assert row['iou'] == pytest.approx(by_hand, abs=1e-3)
    assert row['miou'] == pytest.approx(sum(ious) / len(ious), abs=1e-3)
    predicted, right = matrix[:, 1:7].sum(), sum(matrix[i, i] for i in range(1, 7))
    if predicted:
        assert row['foreground']['precision'] == pytest.approx(100 * right / predicted, abs=1e-3)
        assert row['foreground']['precision_any'] == pytest.approx(100 * matrix[1:, 1:7].sum() / predicted, abs=1e-3)
    assert row['foreground']['recall'] == pytest.approx(100 * right / matrix[1:].sum(), abs=1e-3)
    assert row['background']['recall'] == pytest.approx(100 * matrix[0, 0] / matrix[0].sum(), abs=1e-3)


CASES = [
    ('csrm_demo', dict(scales=[0.5, 1], flip=True), {}, True, True),
    ('csrm_demo', {}, {'model.pseudo_label.stride': 2}, False, False),
    ('csrm_demo', {}, {'model.pseudo_label.stride': 2, 'model.pseudo_label.crf.iterations': 3}, True, True),
    ('csrm_demo', dict(scales=[1, 1.5]), PADDED, False, False),
    ('cam_demo', {}, {}, None, None),
    ('rml_demo', dict(flip=False), {}, None, None),
]


@pytest.mark.parametrize('name, views, options, crf, needs_crf', CASES)
def test_every_setting_is_that_of_the_training(
    audit, root, demo_options, checkpoint_of, name, views, options, crf, needs_crf
):
    if needs_crf or name == 'cam_demo':
        pytest.importorskip('pydensecrf')
    report = audit(name, options=options, fg=FG, bg=BG, crf=crf, **views)
    loop = SlowLoop(str(root / 'mmcfg' / f'{name}.py'), checkpoint_of(name), {**demo_options, **options})
    names = report['context']['classes']
    assert len(names) == 7
    for row in report['settings']:
        keys = ('scales', 'flip', 'refine', 'fg_threshold', 'bg_threshold')
        settings = {key: row[key] for key in keys} | dict(stride=report['context']['stride'])
        if row['refine'] == 'crf':
            settings['crf'] = report['context']['crf']
        matrix = loop.count(settings)
        check(row, matrix, names)
    assert report['context']['pixels'] == dict(zip(names, matrix.sum(axis=1).tolist()))
    coverages = [row['coverage'] for row in report['settings']]
    assert min(coverages) < 90 and max(coverages) > 95, 'there is something to tell apart'
    if name == 'rml_demo':
        assert {row['refine'] for row in report['settings']} == {'none', 'par'}


def test_the_configs_own_setting_is_a_row(audit):
    report = audit(crf=False, fg=[0.9], bg=[0.2], scales=[0.5])
    own = report['settings'][report['config']]
    how = ('scales', 'flip', 'refine', 'fg_threshold', 'bg_threshold')
    cfg_thresholds = (own['fg_threshold'], own['bg_threshold'])
    assert own['scales'] == [1.0] and cfg_thresholds != (0.9, 0.2) and own['refine'] == 'none'
    assert not report['context']['config_exact'], 'the config refines'
    assert [report['settings'][0][key] for key in how] == [[0.5], True, 'none', 0.9, 0.2]
    assert len(report['settings']) == 2
    # A classifier learns from no pixel labels.
    assert audit('cam_demo', crf=False)['config'] is None


def test_processes_do_not_change_the_counts(audit):
    one, two = (audit(crf=False, workers=workers, split='train') for workers in (0, 2))
    assert one == two and one['context']['pictures'] == 4


def test_labels_from_the_other_tool_have_the_same_scores(audit, root, demo_options, checkpoint_of, tmp_path):
    """At one scale and stride 1 the label maps of `tools/pseudo_labels.py` are these labels."""
    settings = dict(source='cam', threshold=0.5, bg_threshold=0.2)
    make_pseudo_labels(
        str(root / 'mmcfg' / 'cam_demo.py'),
        checkpoint_of('cam_demo'),
        str(tmp_path),
        split='val',
        settings=settings,
        cfg_options=demo_options,
        workers=0,
    )
    (row,) = audit('cam_demo', fg=[0.5], bg=[0.2], crf=False)['settings']
    maps = [np.array(Image.open(path)) for path in sorted(tmp_path.glob('*.png'))]
    assert row['coverage'] == pytest.approx(100 * np.mean([labels != 255 for labels in maps]), abs=1e-3)


def test_context_says_what_it_stands_on(audit, checkpoint_of, tmp_path):
    report = audit(crf=False, scales=[0.5, 1], flip=True, limit=2)
    context = report['context']
    assert (context['split'], context['pictures'], context['pictures_of_split']) == ('val', 2, 3)
    assert (context['scales'], context['flip'], context['crf'], context['unit']) == ([0.5, 1], True, False, 'percent')
    assert (context['weights'], context['config'], context['stride']) == ('teacher', 'csrm_demo.py', 1)
    assert len(context['checkpoint_sha256']) == 64 and 'weights_from' not in context
    assert context['fg_thresholds'] == [0.3, 0.4, 0.5, 0.6, 0.7] and context['min_coverage'] == 80
    assert any('2 pictures are a handful' in text for text in report['cautions'])
    write_json(tmp_path / 'audit.json', report)
    assert json.loads((tmp_path / 'audit.json').read_text())['context'] == context


def test_the_settings_of_dcrf_are_said(audit):
    pytest.importorskip('pydensecrf')
    report = audit(options={'model.pseudo_label.crf.iterations': 2}, crf=True, fg=[0.5], bg=[0.3], limit=1)
    assert report['context']['crf']['iterations'] == 2 and 'workers' not in report['context']['crf']
    assert report['context']['par'] is False and report['context']['config_exact']
    assert {row['refine'] for row in report['settings']} == {'crf'}


def test_a_classifier_is_audited_with_the_settings_of_its_csrm(audit, checkpoint_of):
    """The CAM that CSRM starts from is the classifier's: the same labels, whichever config is given."""
    grid = dict(fg=[0.5], bg=[0.2], crf=False, flip=True)
    (alone,) = audit('cam_demo', **grid)['settings']
    started = audit('csrm_demo', checkpoint_of('cam_demo'), **grid)
    assert len(started['settings']) == 2 and alone in started['settings']
    assert started['context']['weights_from'] == 'classifier that the training would start from'


def test_errors_of_the_masks(audit, demo_root, tmp_path):
    mask = demo_root / 'SegmentationClass' / 'val_0000.png'
    before = mask.read_bytes()
    try:
        Image.fromarray(np.full((40, 48), 9, dtype=np.uint8)).save(mask)
        with pytest.raises(UserError, match=r'val_0000.png` holds class 9, but the data set has classes 0 to 6'):
            audit(crf=False)
        Image.fromarray(np.full((40, 48), 255, dtype=np.uint8)).save(mask)
        with pytest.raises(UserError, match='nothing but 255'):
            audit(crf=False, limit=1)
        mask.write_bytes(before[:60])
        with pytest.raises(UserError, match=r'or its mask `.*val_0000.png` cannot be read'):
            audit(crf=False)
    finally:
        mask.write_bytes(before)


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(min_coverage=101), '--min-coverage must be a percentage'),
        (dict(limit=0), '--limit must be at least 1'),
        (dict(workers=-1), '--workers must be at least 0'),
        (dict(device='foo'), '--device foo: '),
        (dict(split='nosuch'), r'nosuch.txt does not exist; the folder has the splits'),
        (dict(scales=[0]), '`--scales` must be a list of one or more numbers above 0'),
        (dict(fg=[0.2], bg=[0.4]), '--bg: every threshold is above every one of --fg'),
    ],
)
def test_wrong_settings_are_one_line(audit, given, message):
    with pytest.raises(UserError, match=message):
        audit(**{'crf': False, **given})
