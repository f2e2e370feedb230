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
    assert '--threshold 0.35' in command(voc.stages['labels_cam'], 'pseudo_labels')
    assert 'RUN/labels_csrm/crf/val' in command(voc.stages['labels_csrm_crf'], 'evaluate_labels', 1)


def test_scores_of_labels_are_read_with_what_they_stand_on(demo, write):
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
