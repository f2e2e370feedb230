"""A method that nothing in the package knows goes through every tool: one network, no decoder, propagated CAMs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from PIL import Image

from csrm_plugin.config.load import load_config
from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.engine.testing import prepare_testing, run_test
from csrm_plugin.engine.training import prepare_training, run_training
from csrm_plugin.functional import fraction, normalize_cam, upscale
from csrm_plugin.inference import browsing
from csrm_plugin.inference import export_model as export
from csrm_plugin.inference.audit_labels import audit_labels
from csrm_plugin.inference.evaluate_labels import evaluate_label_folder
from csrm_plugin.inference.predict import predict_pictures
from csrm_plugin.inference.predictor import MultiScalePredictor
from csrm_plugin.inference.pseudo_labels import make_pseudo_labels
from csrm_plugin.models.checkpoints.prediction import load_model
from csrm_plugin.models.segmentors import PseudoLabelSettings, WSSSSegmentor
from csrm_plugin.models.segmentors.propagating_segmentor import Propagated, PropagatingSegmentor
from csrm_plugin.models.segmentors.views import TrainingView
from csrm_plugin.report import write_report
from csrm_plugin.tracking import record
from csrm_plugin.utils import UserError

NOTE = 'CAMs smoothed over 3 x 3 positions, background 0.4'
SIZE = (48, 40)  # width, height in pixels
NUM_CLASSES = 6


@MODELS.register_module(force=True)
class SmoothingSegmentor(PropagatingSegmentor):
    """Propagates a CAM to the neighbours of each position, and takes it for the segmentation.

    All that a method must bring: its network, its losses, and how it propagates. Pseudo labels, what is drawn and said
    of them, and everything that prediction and scores need, are there.
    """

    SETTINGS = {'pseudo_label': PseudoLabelSettings}
    PSEUDO_LABEL = dict(fg_threshold=0.6, bg_threshold=0.3, refine='none', scales=(0.5, 1.0), flip=True)
    segmentation_note = NOTE

    def __init__(self, cam_head, loss_c, pseudo_label=None, **kwargs):
        super().__init__(**kwargs)
        self.labeler = self.build_labeler(pseudo_label)
        self.stem = torch.nn.Conv2d(3, 16, 8, 8)
        self.cam_head = MODELS.build(cam_head)
        self.loss_c = MODELS.build(loss_c)

    def extract_feat(self, inputs):
        return self.stem(inputs).relu()

    def loss(self, inputs, data_samples):
        features = self.extract_feat(inputs)
        labels = self.image_labels(data_samples, inputs.device)
        cam, made = self.cam_head(features), self.pseudo_labels(inputs, data_samples)
        scores = torch.nn.functional.pad(upscale(smooth(cam), made.shape[1:]), (0, 0, 0, 0, 1, 0), value=0.4)
        return {
            'loss_c': self.loss_c(self.classify(cam), labels),
            'loss_s': torch.nn.functional.nll_loss(scores.clamp(min=1e-6).log(), made, ignore_index=255),
            'reliable/s': fraction(made != 255),
        }

    def pseudo_labels(self, inputs, data_samples):
        labels, valid = self.image_labels(data_samples, inputs.device), self.valid_pixels(inputs, data_samples)
        return self.labeler.from_views(self._forward, inputs, labels, self.pictures, valid)

    def propagate(self, inputs):
        features = self.extract_feat(inputs)
        cam, points = self.cam_head(features), torch.nn.functional.normalize(features.flatten(2), dim=1)
        return Propagated(cam, smooth(cam), (points.transpose(1, 2) @ points).clamp(0, 1))

    def training_view(self, inputs, data_samples):
        made = self.pseudo_labels(inputs, data_samples)
        return TrainingView(self._forward(inputs), 'CAM', made, self.labeler.caption())


def smooth(cam):
    return torch.nn.functional.avg_pool2d(normalize_cam(cam), 3, 1, 1, count_include_pad=False)


CONFIG = """
_base_ = [ROOT + '/mmcfg/_base_/runtime.py', ROOT + '/mmcfg/_base_/datasets/demo.py']
model = dict(
    type='SmoothingSegmentor',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[63.75] * 3, bgr_to_rgb=True, pad_val=0, seg_pad_val=255,
        size_divisor=1),
    cam_head=dict(type='CAMHead', in_channels=16, num_classes=6, pooling='max'),
    loss_c=dict(type='MultiLabelSoftMarginLoss'),
    test_cfg=dict(threshold=0.4))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
param_scheduler = [dict(type='PolyLR', power=1.0, by_epoch=True, convert_to_iter_based=True)]
custom_hooks = [dict(type='CollapseAlarmHook')]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
val_evaluator = dict(type='WSSSMetric')
test_evaluator = val_evaluator
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp('config')
    path = folder / 'smoothing_demo.py'
    path.write_text(CONFIG.replace('ROOT + ', '').replace("'/mmcfg", f"'{request.config.rootpath}/mmcfg"))
    return str(path)


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    root = str(tmp_path_factory.mktemp('data') / 'demo')
    ensure_synthetic(root, image_size=SIZE, num_train=6, num_val=3, seed=0)
    values = {'train_dataloader.batch_size': 3}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        values |= {
            f'{loader}.num_workers': 0,
            f'{loader}.persistent_workers': False,
            f'{loader}.dataset.data_root': root,
            f'{loader}.dataset.image_size': SIZE,
            f'{loader}.dataset.num_train': 6,
            f'{loader}.dataset.num_val': 3,
            f'{loader}.dataset.pipeline.1.scale': SIZE,
        }
    return values


def for_inference(options):
    return {key: value for key, value in options.items() if key.startswith('test_')}


@pytest.fixture(scope='module')
def run(config, options, tmp_path_factory):
    """Work directory of a training, and what was warned of at its start."""
    folder, warnings = tmp_path_factory.mktemp('run') / 'run', []
    cfg = prepare_training(config, options, str(folder))
    patch = pytest.MonkeyPatch()
    patch.setattr('logging.Logger.warning', lambda self, text, *args, **kwargs: warnings.append(str(text)))
    run_training(cfg)
    patch.undo()
    return folder, warnings


@pytest.fixture(scope='module')
def checkpoint(run):
    return str(run[0] / 'epoch_2.pth')


def test_training_record_and_report(run):
    folder, warnings = run
    assert not any('trained CAM classifier' in text or 'could not be drawn' in text for text in warnings)
    found = record.read_run(folder)
    last = found.validations[-1]
    assert last['context']['segmentation'] == NOTE
    assert {'loss_c', 'loss_s', 'reliable/s'} <= set(found.train[-1])
    names = {name: record.full_name(name, last) for name in record.SCORES if name in last['metrics']}
    views = 'scale 1, no flip, no CRF'
    assert names['pseudo/mIoU'] == f'pseudo/mIoU (val, from the propagated CAM at 0.4, {NOTE}, {views})'
    assert names['seg/mIoU'] == f'seg/mIoU (val, {NOTE}, {views})'
    assert NOTE not in names['cam/mIoU']
    assert names['affinity/AUC'] == 'affinity/AUC (val, pairs of positions, against the masks, scale 1, no flip)', (
        'no label, threshold or CRF has a part in it'
    )
    panels = [panel['name'] for panel in found.pictures['items'][0]['panels']]
    assert panels == ['input', 'CAM', 'propagated CAM', 'training label', 'prediction', 'truth']
    page = Path(write_report([str(folder)])).read_text(encoding='utf-8')
    for text in ('Affinity AUC', 'propagated CAM', NOTE, 'loss_s', 'propagated CAM at the fixed threshold 0.4'):
        assert text in page, text
    assert 'The best threshold (star)' in page and 'run: propagated CAM: best' in page


def test_scores_of_a_checkpoint(config, checkpoint, options, tmp_path):
    cfg = prepare_testing(config, checkpoint, for_inference(options), str(tmp_path / 'work'))
    run_test(cfg, json_path=str(tmp_path / 'result.json'), out_dir=str(tmp_path / 'out'))
    report = json.loads((tmp_path / 'result.json').read_text())
    assert report['context']['segmentation'] == NOTE and 0 <= report['affinity/AUC'] <= 100
    assert report['context']['affinity_pairs']['same_class'] > 0
    assert report['pseudo/mIoU'] == report['pseudo/mIoU@0.40']
    assert len(list((tmp_path / 'out').glob('*.png'))) == 3


def test_labels_from_propagated_cams_and_their_curve(config, checkpoint, options, tmp_path):
    out = tmp_path / 'labels'
    how = dict(cfg_options=for_inference(options), workers=0, split='val')
    done = make_pseudo_labels(config, checkpoint, str(out), settings={}, save_cams=True, **how)
    assert done['made'] == 3 and done['source'] == 'propagated'
    settings = json.loads((out / 'labels.json').read_text())['settings']
    assert (settings['source'], settings['threshold'], settings['segmentation']) == ('propagated', 0.4, NOTE)
    assert settings['weights'] == 'SmoothingSegmentor'
    cfg = load_config(config, for_inference(options))
    model = load_model(cfg, checkpoint)
    root = options['test_dataloader.dataset.data_root']
    truth, split = f'{root}/SegmentationClass', f'{root}/ImageSets/Segmentation/val.txt'
    report = evaluate_label_folder(str(out), truth, split, thresholds='0.1:0.9:0.1')
    assert report['fixed']['miou'] == pytest.approx(report['miou'], abs=0.3)  # CAMs are saved in half precision
    assert report['context']['segmentation'] == NOTE
    # Without the label maps the curve is all there is, and it is of propagated CAMs.
    for path in out.glob('*.png'):
        path.unlink()
    report = evaluate_label_folder(str(out), truth, split, thresholds='0.1:0.9:0.1')
    assert (report['context']['source'], report['context']['segmentation']) == ('propagated', NOTE)
    # Labels from the plain CAMs of the same model are other labels; they want a threshold of their own.
    with pytest.raises(UserError, match='--threshold'):
        make_pseudo_labels(config, checkpoint, str(tmp_path / 'cam'), settings=dict(source='cam'), **how)
    make_pseudo_labels(
        config, checkpoint, str(tmp_path / 'cam'), settings=dict(source='cam', threshold=0.4), save_cams=True, **how
    )
    assert 'segmentation' not in json.loads((tmp_path / 'cam' / 'labels.json').read_text())['settings']
    sample = next((tmp_path / 'cam' / 'cams').glob('*.npz')).name
    plain, propagated = (np.load(folder / 'cams' / sample)['cams'] for folder in (tmp_path / 'cam', out))
    assert plain.shape == propagated.shape and not np.allclose(plain, propagated, atol=0.05)
    assert model.segmentation_note == NOTE


def test_labels_that_it_learns_from_are_audited(config, checkpoint, options):
    report = audit_labels(
        config, checkpoint, fg=[0.5], bg=[0.2], crf=False, workers=0, cfg_options=for_inference(options)
    )
    assert report['context']['scales'] == [0.5, 1] and report['context']['weights'] == 'SmoothingSegmentor'
    own = report['settings'][report['config']]
    assert (own['fg_threshold'], own['bg_threshold'], own['refine']) == (0.6, 0.3, 'none')


def test_any_picture_without_labels(config, checkpoint, options, tmp_path):
    pictures = options['test_dataloader.dataset.data_root'] + '/JPEGImages'
    out = tmp_path / 'out'
    done = predict_pictures(config, checkpoint, [pictures], str(out), cfg_options=for_inference(options), workers=0)
    assert done['made'] == 9
    settings = json.loads((out / 'labels.json').read_text())['settings']
    assert (settings['restricted'], settings['segmentation']) == ('classifier', NOTE)


def test_views_are_averaged(config, checkpoint, options):
    model = load_model(load_config(config, for_inference(options)), checkpoint)
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 48), dtype=np.uint8))
    views = [picture, picture[:, ::2, ::2].contiguous()]
    both = MultiScalePredictor(model, flip=True)(views, (40, 48))
    single = [MultiScalePredictor(model, flip=True)([view], (40, 48)) for view in views]
    torch.testing.assert_close(both.propagated, (single[0].propagated + single[1].propagated) / 2)
    assert both.propagated.shape == (NUM_CLASSES, 40, 48) and 0 <= both.propagated.min() <= both.propagated.max() <= 1


def test_tiles_are_on_the_scale_of_the_whole_picture(config, checkpoint, options):
    """A class that is weak in a tile stays weak there, though the tile's map was divided by its own maximum."""
    model = load_model(load_config(config, for_inference(options)), checkpoint)
    picture = np.random.default_rng(0).integers(0, 256, (3, 128, 320)).astype(np.float32)
    picture[:, :, :150] = picture[:, :, :150] / 8 + 110  # little to see on the left
    picture = torch.from_numpy(picture.astype(np.uint8))
    whole = MultiScalePredictor(model)([picture], (128, 320))
    tiled = MultiScalePredictor(model, tile=128)([picture], (128, 320))
    assert tiled.tile == 128 and tiled.propagated.shape == whole.propagated.shape
    inside = (slice(None), slice(16, 112), slice(16, 304))
    difference = (tiled.propagated - whole.propagated)[inside].abs()
    assert difference.mean() < 0.05 and difference[:, :, :80].mean() < 0.05
    # The classes' scores are pooled as the model's head pools, over the whole map.
    torch.testing.assert_close(tiled.scores, tiled.cam.amax(dim=(1, 2)).sigmoid())


def test_browsing_draws_what_the_model_says(config, checkpoint, options, tmp_path):
    paths = browsing.browse(config, checkpoint, str(tmp_path / 'out'), 2, options)
    assert len(paths) == 3
    assert Image.open(paths[0]).width // browsing.PANEL_WIDTH == 3  # input, CAM, pseudo label


def test_a_model_that_says_nothing_is_drawn_as_pictures(config, options, tmp_path, monkeypatch):
    monkeypatch.setattr(SmoothingSegmentor, 'training_view', WSSSSegmentor.training_view)
    paths = browsing.browse(config, None, str(tmp_path / 'out'), 1, options)
    assert Image.open(paths[0]).width // browsing.PANEL_WIDTH == 1


def test_export_says_that_there_is_no_decoder(config, checkpoint, options, tmp_path):
    with pytest.raises(UserError, match='is a SmoothingSegmentor, which segments without a decoder'):
        export.export_model(config, checkpoint, str(tmp_path / 'out'), cfg_options=for_inference(options))
    assert not (tmp_path / 'out').exists()
