import os

from csrm_plugin.datasets.synthetic import ensure_synthetic


def test_labels_are_made_for_the_training_list_and_scored_on_the_smaller_one(voc, command):
    stage = voc.stages['labels_csrm']
    assert '--split train_aug --source seg' in command(stage, 'pseudo_labels')
    text = command(stage, 'pseudo_labels')
    assert '--out RUN/labels_csrm/plain/train_aug' in text and '--crf-out RUN/labels_csrm/crf/train_aug' in text
    assert '--scales 0.5 1 1.5 2 --flip' in text and 'RUN/csrm/train/epoch_15.pth' in text
    scored = command(stage, 'evaluate_labels')
    assert 'RUN/labels_csrm/plain/train_aug voc/SegmentationClass' in scored
    assert '--split-file voc/ImageSets/Segmentation/train.txt' in scored and '--thresholds' not in scored
    assert '--thresholds 0.05:0.95:0.05' in command(voc.stages['labels_cam'], 'evaluate_labels')
    assert 'RUN/labels_csrm/crf/val' in command(voc.stages['labels_csrm_crf'], 'evaluate_labels', 1)


def test_scores_of_labels_are_read_with_what_they_stand_on(demo, write):
    stage = demo.stages['labels_cam']
    point = dict(threshold=0.2, miou=44.0, fp=1.0, fn=2.0)
    best, told = dict(threshold=0.2, miou=44.0, chosen_with='ground truth'), dict(split='val', pictures=3)
    write(stage.path('threshold_val.json'), curve=[point], best=best, context=told)
    for split, miou in (('train', 40.0), ('val', 30.0)):
        write(stage.path(f'made_{split}.json'), images_per_second=2.0, made=3, pictures=3, tiled=['a'])
        context = dict(source='cam', scales=[1], flip=True, crf=False, threshold=0.2, threshold_chosen_on='val')
        context['classes'] = ['x']
        best = dict(miou=miou + 1, threshold=0.2)
        write(stage.path(f'scores_{split}.json'), miou=miou, fp=1.0, fn=2.0, best=best, context=context)
    found = stage.finish()
    assert found['scores']['val'] == dict(miou=30.0, fp=1.0, fn=2.0, best_miou=31.0, best_threshold=0.2)
    how = dict(threshold=0.2, threshold_chosen_on='val', tiled_pictures=2)
    assert found['context'] == dict(source='cam', scales=[1], flip=True, crf=False, **how)
    assert found['choice'] == dict(split='val', pictures=3, threshold=0.2, miou=44.0, curve=[point])
    assert found['images_per_second'] == 2.0


def test_a_threshold_is_chosen_on_one_split_and_is_that_of_all(voc, command):
    """CAMs of the same views and their curve come first; then labels, at what the curve says is best."""
    stage = voc.stages['labels_cam']
    label, score = 'tools/pseudo_labels.py', 'tools/evaluate_labels.py'
    assert [words[0] for words in stage.commands()] == [label, score, label, label, score, score]
    saved, curve = command(stage, 'pseudo_labels'), command(stage, 'evaluate_labels')
    assert '--out RUN/labels_cam/choice --split val' in saved and '--save-cams' in saved and '--crf-out' not in saved
    assert '--threshold 0.35' in saved  # of label maps that nobody uses
    assert 'RUN/labels_cam/choice voc/SegmentationClass --split-file voc/ImageSets/Segmentation/val.txt' in curve
    assert '--json RUN/labels_cam/threshold_val.json --thresholds 0.05:0.95:0.05' in curve
    views = '--scales 0.5 1 1.5 2 --flip'
    for index, split in ((1, 'train_aug'), (2, 'val')):
        text = command(stage, 'pseudo_labels', index)
        assert f'--split {split}' in text and '--threshold-from RUN/labels_cam/threshold_val.json' in text
        assert views in text and views in saved and '--threshold 0.35' not in text
    assert '--threshold' not in command(voc.stages['labels_csrm'], 'pseudo_labels')


def test_without_masks_the_threshold_is_the_one_that_is_given(demo, tmp_path, command):
    ensure_synthetic(str(tmp_path / 'data'), image_size=(32, 32), num_train=2, num_val=2, seed=0)
    stage = demo.stages['labels_cam']
    with_masks = stage.settings()
    assert stage.choice_split == 'val'
    next((tmp_path / 'data' / 'SegmentationClass').glob('val*.png')).unlink()
    assert stage.choice_split is None and stage.settings() != with_masks  # so the stage runs again
    assert [words[0] for words in stage.commands()].count('tools/pseudo_labels.py') == 2
    assert '--threshold 0.15' in command(stage, 'pseudo_labels')
    choice = stage._choice()['choice']
    assert (choice['split'], choice['threshold'], choice['miou'], choice['curve']) == ('val', 0.15, None, [])


def test_what_only_the_choice_needed_is_removed(demo, write):
    stage = demo.stages['labels_cam']
    for name in ('choice/cams/a.npz', 'threshold_val.json', 'plain/val/a.png'):
        write(stage.path(name))
    stage.tidy()
    assert sorted(os.listdir(stage.folder)) == ['plain', 'threshold_val.json']
