import pytest

from csrm_plugin.report import write_report


def test_seeds_have_mean_and_deviation(tmp_path, build, read_page):
    for seed, score in enumerate((50.0, 52.0, 57.0)):
        build['run'](tmp_path / f'seed_{seed}', seed=seed, score=score)
    page = read_page(write_report(tmp_path))
    rows = page.table('The 3 runs differ in their seeds alone (0, 1, 2). Scores at iteration 60')
    assert rows[1] == ['Segmentation mIoU', '53.0%', '3.61', '50.0% to 57.0%']


@pytest.mark.parametrize(
    ('more', 'text'),
    [
        (dict(git={'revision': 'f' * 40, 'dirty': False}), 'the revision of the code'),
        (dict(git={'revision': 'abcdef0123456789', 'dirty': True}), 'changes of the code that are not committed'),
        (dict(versions={'python': '3.11.7', 'torch': '2.4.0'}), 'the version of torch'),
        (dict(versions={'torch': '2.13.0'}), 'the version of python'),
    ],
)
def test_other_code_is_named_where_settings_are_the_same(tmp_path, build, read_page, more, text):
    build['run'](tmp_path / 'a')
    build['run'](tmp_path / 'b', **more)
    assert f'The settings of these runs are the same, but not {text}.' in read_page(write_report(tmp_path)).text
    build['run'](tmp_path / 'seeds' / 'a')
    build['run'](tmp_path / 'seeds' / 'b', seed=1, **more)
    page = read_page(write_report(tmp_path / 'seeds'))
    assert f'The 2 runs differ in their seeds (0, 1) and in {text}.' in page.text and 'seeds alone' not in page.text


def test_changes_that_are_not_committed_may_differ(tmp_path, build, read_page):
    for seed in (0, 1):
        build['run'](tmp_path / str(seed), seed=seed, git={'revision': 'a' * 40, 'dirty': True})
    text = read_page(write_report(tmp_path)).text
    assert 'seeds alone (0, 1)' in text and 'changes that are not committed, which may differ' in text
    build['run'](tmp_path / 'single')
    assert 'may differ' not in read_page(write_report(tmp_path / 'single')).text
