import json

from csrm_plugin.report import write_report
from csrm_plugin.report.runs.sources import load_runs
from csrm_plugin.report.sections.settings import differing_settings


def test_differing_settings_know_types_and_order(tmp_path, build):
    """Numbers that are equal are no difference, but True and 1 are; the main settings come first."""
    same = {'a': 1, 'b': True, 'z.c': [1, 2]}
    other = {'a': 1.0, 'b': 1, 'z.c': [1.0, 3], 'model.type': 'RML'}
    folders = [build['run'](tmp_path / name, settings=found) for name, found in (('x', same), ('y', other))]
    assert differing_settings(load_runs(folders)[0]) == {
        'model.type': ['CSRM', 'RML'],
        'b': [True, 1],
        'z.c': [[1, 2], [1.0, 3]],
    }


def test_other_data_labels_or_starts_are_other_settings(tmp_path, build, read_page):
    data, labels = 'train_dataloader.dataset.data_root', 'train_dataloader.dataset.pseudo_label_dir'
    build['run'](tmp_path / 'a', sources={data: 'data/a', labels: 'labels'}, load_from='cam/epoch_1.pth')
    build['run'](tmp_path / 'b', seed=1, sources={data: 'data/b', labels: 'labels'}, load_from='cam/epoch_2.pth')
    page = read_page(write_report(tmp_path))
    assert page.table('3 settings that differ')[1:] == [
        ['load_from', 'cam/epoch_1.pth', 'cam/epoch_2.pth'],
        ['randomness.seed', '0', '1'],
        [data, 'data/a', 'data/b'],
    ]
    assert 'seeds alone' not in page.text
    single = read_page(write_report(tmp_path / 'a')).table('The main settings')
    assert [data, 'data/a'] in single and [labels, 'labels'] in single


def test_a_record_without_its_data_folders_says_so(tmp_path, build, read_page):
    build['run'](tmp_path / 'a')
    for name in ('b', 'c'):
        path = build['run'](tmp_path / name) / 'record' / 'run.json'
        build['write'](path, {key: value for key, value in json.loads(path.read_text()).items() if key != 'sources'})
    page = read_page(write_report([tmp_path / 'b', tmp_path / 'c']))
    assert 'The settings of these runs are the same. Which folders the data came from was not recorded' in page.text
    page = read_page(write_report([tmp_path / 'a', tmp_path / 'b']))
    assert page.table('1 setting that differs')[1][1:] == ['data/demo', 'not recorded']
