import shutil

import pytest

from csrm_plugin.report.runs.sources import load_runs
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
    assert group.cards == [] and group.sheet is None and group.table is None
    build['write'](tmp_path / 'table' / 'table.json', dict(labels=[]))
    assert load_runs([tmp_path])[1][0].table == dict(labels=[])


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


def test_what_was_set_aside_is_neither_a_stage_nor_a_run(tmp_path, build):
    """A training that another one replaced lies beside it, with its card, record and table."""
    folder = build['pipeline'](tmp_path / 'pipe')
    build['write'](folder / 'table' / 'table.json', {'rows': 'new'})
    shutil.copytree(folder / 'csrm', folder / 'csrm.set_aside_20261122_101112_changed_since_code')
    build['write'](folder / '0_table.set_aside_20261122_101112' / 'table.json', {'rows': 'old'})
    (folder / 'csrm' / 'train').rename(folder / 'csrm' / 'train.set_aside_20261122_101112')
    build['run'](folder / 'csrm' / 'train', record=False)
    (run,), (group,) = load_runs([folder])
    assert run.folder == str(folder / 'csrm' / 'train') and run.label == 'csrm'
    assert [card['stage'] for card in group.cards] == ['classifier', 'csrm', 'labels_cam']
    assert group.table == {'rows': 'new'}


def test_runs_that_were_set_aside_are_not_among_those_of_a_folder(tmp_path, build):
    for name in ('seed_0', 'seed_0.set_aside_20261122_101112_it_was_not_finished', 'seed_1'):
        build['run'](tmp_path / 'seeds' / name)
    runs, _ = load_runs([tmp_path / 'seeds'])
    assert [run.label for run in runs] == ['seed_0', 'seed_1']
    (run,), _ = load_runs([tmp_path / 'seeds' / 'seed_0.set_aside_20261122_101112_it_was_not_finished'])
    assert run.seed == 0  # asked for by its name, it is reported


def test_a_table_that_is_broken_is_named(tmp_path, build):
    folder = build['pipeline'](tmp_path)
    (folder / 'table').mkdir()
    (folder / 'table' / 'table.json').write_text('[')
    with pytest.raises(UserError, match=r'table.json` is no JSON .* remove it, or call tools/pipeline.py again'):
        load_runs([folder])
