import os
from dataclasses import replace

import pytest

from csrm_plugin.config.load import load_config
from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.experiments.pipeline.run import Run
from csrm_plugin.experiments.pipeline.stages.base import for_inference, last_checkpoint


def test_options_of_a_training_reach_what_builds_its_model_again(root, command):
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
