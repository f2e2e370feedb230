import os
from pathlib import Path

from csrm_plugin.experiments.done import changed_parts, why_again
from csrm_plugin.utils.set_aside import set_aside


def test_what_was_finished_with_the_same_key_counts():
    key = dict(settings='a', code='b')
    assert why_again(True, key, dict(key)) is None
    assert why_again(False, key, key) == 'it was not finished'
    assert why_again(True, key, dict(settings='x', code='y')) == 'changed since: settings, code of the project'
    assert why_again(True, {}, dict(seed=None)) == 'changed since: seed'  # older ones did not know it
    assert changed_parts(dict(more=1, seed=0), dict(seed=0)) == []


def test_what_is_set_aside_says_why_and_nothing_is_written_over(tmp_path):
    places = []
    for number in range(2):
        folder = tmp_path / 'seed_0'
        folder.mkdir()
        (folder / 'epoch_1.pth').write_text(str(number))
        places.append(set_aside(f'{folder}/', 'changed since: code of the project, settings'))
        assert not folder.exists()
    for number, place in enumerate(places):
        assert os.path.basename(place).startswith('seed_0.set_aside_2')
        assert 'changed_since_code_of_the_project_settings' in place
        assert Path(place, 'epoch_1.pth').read_text() == str(number)
