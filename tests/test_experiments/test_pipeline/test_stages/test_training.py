import os


def test_networks_are_trained_on_the_labels_that_the_pipeline_names(voc, command):
    setting = 'train_dataloader.dataset.pseudo_label_dir='
    assert f'{setting}RUN/labels_csrm/crf/train_aug' in command(voc.stages['verify_csrm'], 'train')
    assert f'{setting}RUN/labels_cam/crf/train_aug' in command(voc.stages['verify_cam'], 'train')
    assert f'{setting}voc/SegmentationClass' in command(voc.stages['verify_masks'], 'train')
    predicted = command(voc.stages['verify_csrm'], 'pseudo_labels')
    assert 'iter_10000.pth' in predicted and '--unrestricted' in predicted and '--split val' in predicted
    assert '--resume' in command(voc.stages['verify_csrm'], 'train')  # as the pipeline asks for it
    assert 'load_from=RUN/classifier/train/epoch_15.pth' in command(voc.stages['csrm'], 'train')


def test_scores_of_networks_are_read_and_random_weights_are_told(demo, write):
    stage = demo.stages['verify_csrm']
    write(stage.path('test_val.json'), **{'seg/mIoU': 50.0})
    write(stage.path('made.json'), images_per_second=1.5)
    for name, miou in (('plain', 51.0), ('crf', 52.0)):
        write(stage.path(f'{name}_val.json'), miou=miou, context=dict(source='seg', flip=True))
    os.makedirs(stage.path('logs'))
    with open(stage.path('logs/01_train.log'), 'w') as file:
        file.write('11/22 - mmengine - WARNING - ResNet starts from scratch, with random weights: no file.\n')
    assert stage.finish()['update'] == {}  # a training that left no record
    write(
        stage.path('train/record/run.json'),
        cost=dict(images_per_second=8.0, processes=2),
        settings={'train_dataloader.batch_size': 4, 'optim_wrapper.accumulative_counts': 3},
    )
    found = stage.finish()
    assert found['update'] == dict(seconds=3.0, pictures=24)
    assert found['scores'] == dict(val={'seg/mIoU': 50.0, 'seg/mIoU ss flip': 51.0, 'seg/mIoU ss flip crf': 52.0})
    assert found['context']['labels'] == 'labels_csrm_crf' and found['context']['random_weights'] == ['ResNet']
    stage.options = {**stage.options, 'start': 'classifier'}  # brings the weights
    assert 'random_weights' not in stage.finish()['context']
