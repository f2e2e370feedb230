import pytest

from csrm_plugin.report import write_report, write_sweep_report
from csrm_plugin.utils import MissingFileError, UserError


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'is no JSON'),
        ('[]', 'must hold a JSON object'),
        ('{"trials": []}', '`metric` must hold a `name`'),
        ('{"metric": {"name": "a"}, "trials": 3}', '`trials` must be a list'),
        ('{"metric": {"name": "a"}, "trials": [3]}', 'trial 0: is no object'),
        ('{"metric": {"name": "a"}, "trials": [{"number": 0, "state": "complete"}]}', 'trial 0: `params` must be'),
        (
            '{"metric": {"name": "a"}, "trials": [{"number": 0, "state": "x", "params": {}, "curve": [3]}]}',
            '`curve` must',
        ),
    ],
)
def test_a_broken_sweep_is_named(tmp_path, content, message):
    (tmp_path / 'sweep.json').write_text(content)
    with pytest.raises(UserError, match=r'sweep\.json') as info:
        write_report(tmp_path)
    assert message in str(info.value) and not list(tmp_path.glob('*.html'))


def test_no_folder_of_a_sweep(tmp_path):
    with pytest.raises(MissingFileError, match=r'has no sweep\.json'):
        write_sweep_report(tmp_path)
