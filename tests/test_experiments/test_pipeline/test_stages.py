"""What each kind of stage calls, and what it reads from the results; on the pipelines of the project."""

import json
import os
from dataclasses import replace

import pytest

from csrm_plugin.config.load import load_config
from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.experiments.pipeline.run import Run
from csrm_plugin.experiments.pipeline.stages import for_inference, last_checkpoint


@pytest.fixture
def voc(root, tmp_path, monkeypatch):
    """The VOC pipeline in a folder of its own; commands need no data."""
    monkeypatch.setenv('VOC_ROOT', 'voc')
    monkeypatch.delenv('SAM_CHECKPOINT', raising=False)
    return Run(load_recipe('voc', str(root)), str(root), 'RUN')


def command(stage, tool, index=0):
    found = [words for words in stage.commands() if any(word == f'tools/{tool}.py' for word in words)]
    return ' '.join(found[index])


def test_labels_are_made_for_the_training_list_and_scored_on_the_smaller_one(voc):
    stage = voc.stages['labels_csrm']
    assert '--split train_aug --source seg' in command(stage, 'pseudo_labels')
    text = command(stage, 'pseudo_labels')
    assert '--out RUN/labels_csrm/plain/train_aug' in text and '--crf-out RUN/labels_csrm/crf/train_aug' in text
    assert '--scales 0.5 1 1.5 2 --flip' in text and 'RUN/csrm/train/epoch_15.pth' in text
    scored = command(stage, 'evaluate_labels')
    assert 'RUN/labels_csrm/plain/train_aug voc/SegmentationClass' in scored
    assert '--split-file voc/ImageSets/Segmentation/train.txt' in scored and '--thresholds' not in scored
    assert '--thresholds 0.05:0.95:0.05' in command(voc.stages['labels_cam'], 'evaluate_labels')
    assert '--threshold 0.35' in command(voc.stages['labels_cam'], 'pseudo_labels')
    assert 'RUN/labels_csrm/crf/val' in command(voc.stages['labels_csrm_crf'], 'evaluate_labels', 1)


def test_networks_are_trained_on_the_labels_that_the_pipeline_names(voc):
    setting = 'train_dataloader.dataset.pseudo_label_dir='
    assert f'{setting}RUN/labels_csrm/crf/train_aug' in command(voc.stages['verify_csrm'], 'train')
    assert f'{setting}RUN/labels_cam/plain/train_aug' in command(voc.stages['verify_cam'], 'train')
    assert f'{setting}voc/SegmentationClass' in command(voc.stages['verify_masks'], 'train')
    predicted = command(voc.stages['verify_csrm'], 'pseudo_labels')
    assert 'iter_10000.pth' in predicted and '--unrestricted' in predicted and '--split val' in predicted
    assert '--resume' in command(voc.stages['verify_csrm'], 'train')  # as the pipeline asks for it
    assert 'load_from=RUN/classifier/train/epoch_15.pth' in command(voc.stages['csrm'], 'train')


def test_refinement_with_masks_needs_a_checkpoint(voc, monkeypatch):
    names = ('masks', 'labels_cam_sepl', 'labels_csrm_crf_sepl')
    assert all('SAM_CHECKPOINT is not set' in voc.stages[name].missing() for name in names)
    monkeypatch.setenv('SAM_CHECKPOINT', 'sam/vit-huge')
    assert all(voc.stages[name].missing() is None for name in names)
    assert 'tools/sam_masks.py sam/vit-huge voc/JPEGImages' in command(voc.stages['masks'], 'sam_masks')
    merged = command(voc.stages['labels_csrm_crf_sepl'], 'refine_sam')
    assert 'RUN/labels_csrm/crf/train_aug RUN/masks/train_aug' in merged


def test_the_archive_is_made_of_the_test_split(voc):
    stage = voc.stages['export']
    assert 'there is no list voc/ImageSets/Segmentation/test.txt' in stage.missing()
    assert '--split test' in command(stage, 'pseudo_labels') and '--crf' in command(stage, 'pseudo_labels')
    assert '--pictures voc/JPEGImages' in command(stage, 'export_voc')


def test_options_of_a_training_reach_what_builds_its_model_again(root):
    recipe = load_recipe('demo', str(root))
    stages = [
        replace(spec, options={**spec.options, 'options': {'model.bank_capacity': 7, 'train_cfg.max_epochs': 3}})
        if spec.name == 'csrm'
        else spec
        for spec in recipe.stages
    ]
    run = Run(replace(recipe, stages=tuple(stages)), str(root), 'RUN')
    for text in (command(run.stages['csrm'], 'test'), command(run.stages['labels_csrm'], 'pseudo_labels')):
        assert 'model.bank_capacity=7' in text and 'max_epochs' not in text and 'epoch_3.pth' in text
    assert 'train_cfg.max_epochs=3' in command(run.stages['csrm'], 'train')
    assert for_inference({'load_from': 'x', 'randomness.seed': 1, 'optim_wrapper.optimizer.lr': 1, 'model.a': 2}) == {
        'model.a': 2
    }


@pytest.mark.parametrize(
    'config, name',
    [
        ('csrm_voc', 'epoch_15.pth'),
        ('deeplabv2_r101_voc_pseudo', 'iter_10000.pth'),
        ('deeplabv3plus_rs269_coco_pseudo', 'epoch_50.pth'),
    ],
)
def test_the_checkpoint_is_the_last_one(root, config, name):
    cfg = load_config(str(root / 'mmcfg' / f'{config}.py'))
    assert last_checkpoint('work', cfg) == os.path.join('work', name)


def write(path, **content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        json.dump(content, file)


@pytest.fixture
def demo(root, tmp_path, monkeypatch):
    monkeypatch.setenv('DEMO_ROOT', str(tmp_path / 'data'))
    return Run(load_recipe('demo', str(root)), str(root), str(tmp_path / 'run'))


def test_scores_of_labels_are_read_with_what_they_stand_on(demo):
    stage = demo.stages['labels_cam']
    for split, miou in (('train', 40.0), ('val', 30.0)):
        write(stage.path(f'made_{split}.json'), images_per_second=2.0, made=3, pictures=3, tiled=['a'])
        context = dict(source='cam', scales=[1], flip=True, crf=False, threshold=0.15, classes=['x'])
        best = dict(miou=miou + 1, threshold=0.2)
        write(stage.path(f'scores_{split}.json'), miou=miou, fp=1.0, fn=2.0, best=best, context=context)
    found = stage.finish()
    assert found['scores']['val'] == dict(miou=30.0, fp=1.0, fn=2.0, best_miou=31.0, best_threshold=0.2)
    assert found['context'] == dict(source='cam', scales=[1], flip=True, crf=False, threshold=0.15, tiled_pictures=2)
    assert found['images_per_second'] == 2.0


def test_scores_of_networks_are_read_and_random_weights_are_told(demo):
    stage = demo.stages['verify_csrm']
    write(stage.path('test_val.json'), **{'seg/mIoU': 50.0})
    write(stage.path('made.json'), images_per_second=1.5)
    for name, miou in (('plain', 51.0), ('crf', 52.0)):
        write(stage.path(f'{name}_val.json'), miou=miou, context=dict(source='seg', flip=True))
    os.makedirs(stage.path('logs'))
    with open(stage.path('logs/01_train.log'), 'w') as file:
        file.write('11/22 - mmengine - WARNING - ResNet starts from scratch, with random weights: no file.\n')
    found = stage.finish()
    assert found['scores'] == dict(val={'seg/mIoU': 50.0, 'seg/mIoU ss flip': 51.0, 'seg/mIoU ss flip crf': 52.0})
    assert found['context']['labels'] == 'labels_csrm_crf' and found['context']['random_weights'] == ['ResNet']
    stage.options = {**stage.options, 'start': 'classifier'}  # brings the weights
    assert 'random_weights' not in stage.finish()['context']


def test_weights_are_looked_for_beside_the_data(root, tmp_path, monkeypatch):
    monkeypatch.delenv('MSRC_WEIGHTS', raising=False)
    monkeypatch.setenv('MSRC_ROOT', str(tmp_path / 'msrc'))
    monkeypatch.setattr(os, 'environ', dict(os.environ))  # `Run` sets the variable for what it starts
    recipe = load_recipe('msrc', str(root))
    assert Run(recipe, str(root), 'RUN').environment == {}
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'mobilenetv2_imagenet.pth').write_bytes(b'1')
    found = str(tmp_path / 'weights' / 'mobilenetv2_imagenet.pth')
    assert Run(recipe, str(root), 'RUN').environment == dict(MSRC_WEIGHTS=found)
