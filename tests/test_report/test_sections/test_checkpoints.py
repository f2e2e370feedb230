from csrm_plugin.report import write_report
from csrm_plugin.report.page.formats import NONE


def test_tests_of_checkpoints_are_listed(tmp_path, build, read_page):
    context = dict(checkpoint='w/epoch_6.pth', ann_file='ImageSets/Segmentation/train.txt', pictures=7, scales=[1])
    for seed, name in enumerate(('a', 'b')):
        build['run'](tmp_path / name, seed=seed + 3)
        context['checkpoint'] = f'work_dirs/{name}/epoch_6.pth'
        # The seed of the test's config is not that of the training.
        test = {'seg/mIoU': 51.24 + seed, 'cam/mIoU': 40.0, 'cam/threshold': 0.1, 'context': {**context, 'seed': 99}}
        build['write'](tmp_path / f'{name}_train.json', test)
    more = {'ann_file': 'lists/val.txt', 'checkpoint': 'epoch_6.pth'}
    build['write'](tmp_path / 'a_val.json', {'seg/mIoU': 33.0, 'context': {**context, **more}})
    head, *rows = read_page(write_report(tmp_path)).table('Scores of finished')
    assert head == ['Score', 'a', 'b', 'Stands on']
    stands = 'train, 7 pictures, no labels given, scale 1, no flip, no dCRF, checkpoint epoch_6.pth'
    assert rows[0] == ['Segmentation mIoU', '51.2%seed 3', '52.2%seed 4', stands]
    assert rows[1][:2] == ['CAM mIoU', '40.0%at 0.1, seed 3']
    assert rows[1][3].endswith('epoch_6.pth; best threshold of each, chosen with the masks')
    assert rows[2][:3] == ['Segmentation mIoU', '33.0%seed 3', NONE]


def test_tests_of_one_run_stand_side_by_side(tmp_path, build, read_page):
    """Other checkpoints, test-time augmentation, and what only the names of the files tell."""
    folder = build['run'](tmp_path / 'run')
    context = dict(split='val', scales=[1], checkpoint='work_dirs/run/epoch_6.pth', tta=False)
    for index, more in enumerate(
        ({}, {'tta': True}, {'checkpoint': 'work_dirs/run/epoch_4.pth'}, {'checkpoint': 'other/epoch_6.pth'}, {}, {})
    ):
        report = {'seg/mIoU': 50.0 + min(index, 4), 'context': {**context, **more}}
        build['write'](folder / f'test_{index}.json', report)
    rows = read_page(write_report(folder)).table('Scores of finished')[1:]
    start = 'val, no labels given, scale 1, no flip, no dCRF, '
    assert [(row[1], row[2].removeprefix(start)) for row in rows] == [
        ('50.0%seed 0', 'checkpoint epoch_6.pth'),
        ('51.0%seed 0', 'test-time augmentation, checkpoint epoch_6.pth'),
        ('52.0%seed 0', 'checkpoint epoch_4.pth, not the last one, epoch_6.pth'),
        ('53.0%seed not recorded', 'checkpoint other/epoch_6.pth, of another folder'),
        ('54.0%seed 0', 'checkpoint epoch_6.pth, test_4.json'),
        ('54.0%seed 0', 'checkpoint epoch_6.pth, test_5.json'),
    ]
