from csrm_plugin.report.runs.sources import load_runs
from csrm_plugin.report.runs.validations import best_validation


def test_record_and_log_are_put_together(tmp_path, build):
    folder = build['run'](tmp_path / 'run')
    (folder / 'record' / 'validation_0000020.json').unlink()
    run = load_runs([folder])[0][0]
    assert [item['iteration'] for item in run.validations] == [20, 40, 60]
    assert [bool(item['context']) for item in run.validations] == [False, True, True]
    assert best_validation(run, 'seg/mIoU') == (55.0, 40)
    assert best_validation(run, 'nothing') is None
    assert run.iteration == 60


def test_a_run_without_a_record_is_told_by_its_card(tmp_path, build):
    build['run'](tmp_path, record=False)
    ((run,), _) = load_runs([tmp_path])
    assert (run.info, run.settings, run.seed, run.seed_text) == ({}, {}, None, 'not recorded')
    run.card = {'config': {'file': 'mmcfg/x.py', 'settings': {'randomness.seed': 4}}, 'versions': {'torch': '2'}}
    assert run.info['config'] == 'mmcfg/x.py' and run.info['versions'] == {'torch': '2'} and 'git' not in run.info
    assert (run.seed, run.seed_text) == (4, '4')
    run.card['seed'] = 0
    assert (run.seed, run.seed_text) == (0, '0')
