import pytest

from csrm_plugin.report.sources import best_validation, load_runs, scores_of, threshold_curve
from csrm_plugin.utils import MissingFileError, UserError


def test_runs_side_by_side_have_names_that_differ(tmp_path, build):
    folders = [build['run'](tmp_path / name) for name in ('a/csrm', 'b/csrm', 'cam')]
    runs, groups = load_runs(folders)
    assert [run.label for run in runs] == ['a/csrm', 'b/csrm', 'cam'] and groups == []
    assert [run.style for run in runs] == [0, 1, 2]


def test_folder_of_runs(tmp_path, build):
    for name in ('csrm_demo', 'cam_demo'):
        build['run'](tmp_path / name)
    (tmp_path / 'data').mkdir()
    test = {'seg/mIoU': 51.0, 'context': {'checkpoint': 'a.pth', 'ann_file': 'ImageSets/Segmentation/train.txt'}}
    build['write'](tmp_path / 'csrm_demo_train.json', test)
    build['write'](tmp_path / 'csrm_demo_other.json', {'a': 1})
    runs, (group,) = load_runs([tmp_path])
    assert [run.label for run in runs] == ['cam_demo', 'csrm_demo']
    assert runs[0].tests == [] and runs[1].tests == [('csrm_demo_train.json', test)]
    assert group.cards == [] and group.sheet is None


@pytest.mark.parametrize('checkpoint', ['a.pth', 'work_dirs/csrm_demo/a.pth'])
def test_a_test_belongs_to_the_run_with_the_longest_name(tmp_path, build, checkpoint):
    names = ['csrm', 'csrm_demo'] if checkpoint == 'a.pth' else ['csrm']  # else the other run is gone
    for name in names:
        build['run'](tmp_path / name)
    for file in ('csrm_val', 'csrm_demo_val'):
        own = checkpoint if file == 'csrm_demo_val' else 'a.pth'
        build['write'](tmp_path / f'{file}.json', {'seg/mIoU': 51.0, 'context': {'checkpoint': own}})
    runs, _ = load_runs([tmp_path])
    found = {run.label: [name for name, _ in run.tests] for run in runs}
    assert found == {name: [f'{name}_val.json'] for name in names}


def test_pipeline(tmp_path, build):
    (run,), (group,) = load_runs([build['pipeline'](tmp_path)])
    assert run.label == 'csrm' and run.folder == str(tmp_path / 'csrm' / 'train')
    assert run.settings == {'model.type': 'CSRM'} and run.seed == 0
    assert [card['stage'] for card in group.cards] == ['classifier', 'csrm', 'labels_cam']


def test_record_and_log_are_put_together(tmp_path, build):
    folder = build['run'](tmp_path / 'run')
    (folder / 'record' / 'validation_0000020.json').unlink()
    run = load_runs([folder])[0][0]
    assert [item['iteration'] for item in run.validations] == [20, 40, 60]
    assert [bool(item['context']) for item in run.validations] == [False, True, True]
    assert best_validation(run, 'seg/mIoU') == (55.0, 40)
    assert best_validation(run, 'nothing') is None
    assert run.iteration == 60


def test_scores_and_curve_of_a_validation(build):
    metrics = build['validation'](20, 50.0, other=3.0)['metrics']
    assert scores_of(metrics) == {'cam/mIoU': 40.0, 'seg/mIoU': 50.0, 'pseudo/mIoU': 45.0, 'cls/mAP': 95.0}
    curve = threshold_curve(metrics)
    assert [threshold for threshold, _ in curve] == pytest.approx([0.05 * step for step in range(1, 20)])
    assert max(curve, key=lambda point: point[1]) == (0.3, 40.0)
    others = {'seg/mIoU@0.5': 1.0, 'pseudo/mIoU@0.05': 2.0, 'cls/mAP@5': 3.0, 'cam/acc@0.1': 4.0}
    assert threshold_curve({**others, **metrics}) == curve and threshold_curve(others) == []
    assert threshold_curve({**others, **metrics}, 'pseudo/mIoU') == [(0.05, 2.0)]
    assert scores_of(others) == {}
    assert scores_of({'mIoU': 1.0, 'aAcc': 2.0, 'time': 3.0, 'seg/mIoU': None}) == {'mIoU': 1.0, 'aAcc': 2.0}


def test_errors_name_the_folder(tmp_path, build):
    with pytest.raises(MissingFileError, match='nowhere` does not exist'):
        load_runs([tmp_path / 'nowhere'])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(MissingFileError, match='empty` holds no run'):
        load_runs([tmp_path / 'empty'])
    run = build['run'](tmp_path / 'run')
    with pytest.raises(UserError, match='is given twice'):
        load_runs([run, run])
    sweep = build['sweep'](tmp_path / 'sweep', [], {})
    with pytest.raises(UserError, match='is a sweep'):
        load_runs([run, sweep])
