import pytest

from csrm_plugin.report.runs.knowledge import has_pretrained_weights, knowledge_of, told

WEIGHTS = 'model.backbone.init_cfg.checkpoint'
RESNET = {'model.backbone.type': 'ResNet', 'model.backbone.init_cfg.type': 'OptionalPretrained'}


def card(stage, kind, inputs=(), settings=None, **context):
    config = dict(settings={**RESNET, **(settings or {})})
    return dict(stage=stage, kind=kind, inputs=dict.fromkeys(inputs, 'key'), config=config, context=context)


def run(weights='r18.pth (sha256 0123456789abcdef)', **context):
    """A pipeline whose classifier starts from weights, by stage."""
    cards = [
        card('data', 'data'),
        card('classifier', 'train', ['data'], {WEIGHTS: weights}, **context),
        card('csrm', 'train', ['data', 'classifier'], {WEIGHTS: 'none'}),
        card('labels_cam', 'labels', ['data', 'classifier'], restricted='labels', threshold_chosen_on='val'),
        card('labels_cam_crf', 'refined', ['data', 'labels_cam']),
        card('labels_csrm', 'labels', ['data', 'csrm'], restricted='labels', threshold_chosen_on=None),
        card('masks', 'masks', ['data'], masks='sam-vit-huge'),
        card('sepl', 'sepl', ['data', 'labels_csrm', 'masks']),
        card('verify_cam', 'verify', ['data', 'labels_cam_crf'], {WEIGHTS: ''}, labels='labels_cam_crf'),
        card('verify_masks', 'verify', ['data'], {WEIGHTS: 'open-mmlab://resnet18'}, labels='true masks'),
    ]
    return {found['stage']: found for found in cards}


def known(cards):
    return {stage: knowledge_of(found, cards) for stage, found in cards.items()}


def test_a_stage_knows_what_those_before_it_knew():
    found = known(run())
    assert found['data'] == []
    assert found['csrm'] == found['labels_csrm'] == ['image labels', 'ImageNet weights']
    chosen = ['image labels', 'ImageNet weights', 'masks of val for the threshold']
    assert found['labels_cam'] == found['labels_cam_crf'] == found['verify_cam'] == chosen
    assert found['masks'] == ['SAM'] and found['sepl'] == ['image labels', 'ImageNet weights', 'SAM']
    assert found['verify_masks'] == ['ImageNet weights', 'full masks']
    assert told(chosen) == 'image labels, ImageNet weights, masks of val for the threshold'


@pytest.mark.parametrize('weights', ['none', ' None', '', 'r18.pth (not there)', None])
def test_weights_count_only_where_they_were_really_given(weights):
    cards = run(weights)
    assert not has_pretrained_weights(cards['classifier'])
    assert known(cards)['labels_csrm'] == ['image labels']
    # As its log says: the place was named, but the weights could not be had.
    assert known(run('open-mmlab://resnet18', random_weights=['ResNet']))['csrm'] == ['image labels']
    assert known(run('open-mmlab://resnet18', random_weights=['MobileNetV2']))['csrm'][1:] == ['ImageNet weights']


def test_what_a_training_starts_from_takes_the_place_of_other_weights():
    """Weights that `load_from` overwrites are no knowledge."""
    cards = run('none')
    cards['csrm']['config']['settings'][WEIGHTS] = 'r18.pth (sha256 0123456789abcdef)'
    assert known(cards)['csrm'] == ['image labels']


def test_superpixels_know_nothing():
    cards = run('none')
    cards['masks']['context']['masks'] = 'superpixels'
    assert known(cards)['sepl'] == ['image labels']
