import re
from pathlib import Path

import pytest

from csrm_plugin.utils.set_aside import is_set_aside, set_aside, set_aside_of


def test_the_name_says_when_and_why_and_nothing_is_written_over(tmp_path):
    for content in 'ab':
        (tmp_path / 'csrm').mkdir()
        (tmp_path / 'csrm' / 'epoch_3.pth').write_text(content)
        set_aside(tmp_path / 'csrm', 'changed since: code of the project')
    places = set_aside_of(tmp_path / 'csrm')
    assert len(places) == 2 and not (tmp_path / 'csrm').exists()
    pattern = r'csrm\.set_aside_\d{8}_\d{6}_changed_since_code_of_the_project(_2)?'
    assert all(re.fullmatch(pattern, place.rsplit('/', 1)[1]) and is_set_aside(place) for place in places)
    assert sorted(Path(place, 'epoch_3.pth').read_text() for place in places) == ['a', 'b']
    with pytest.raises(FileNotFoundError):
        set_aside(tmp_path / 'csrm')


def test_only_names_with_a_time_were_set_aside(tmp_path):
    assert is_set_aside('record.set_aside_20260131_235959') and is_set_aside('a/csrm.set_aside_20260131_235959_x/')
    assert not any(map(is_set_aside, ('csrm', 'csrm.set_aside', 'csrm.old', 'a.set_aside_20260131_235959/csrm')))
    (tmp_path / 'csrm_2').mkdir()
    place = set_aside(tmp_path / 'csrm_2', 'not finished')
    assert set_aside_of(tmp_path / 'csrm') == [] and set_aside_of(tmp_path / 'csrm_2') == [place]
    assert set_aside_of(tmp_path / 'nowhere' / 'csrm') == []
