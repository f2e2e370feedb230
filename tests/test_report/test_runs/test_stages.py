import pytest

from csrm_plugin.experiments.pipeline.cards import write_card
from csrm_plugin.report.runs.stages import read_stages, sub_folders
from csrm_plugin.utils import MissingFileError, UserError


@pytest.fixture
def write(tmp_path):
    """Writes the card of a stage into a folder, by default of its name, and gives its path."""

    def write_stage(stage, number, folder=None, **more):
        card = dict(stage=stage, kind='train', run='msrc', number=number, status='done', **more)
        write_card(tmp_path / (folder or stage), card)
        return str(tmp_path / (folder or stage))

    return write_stage


def test_stages_are_in_their_order(write, tmp_path):
    places = [write('csrm', 3), write('data', 1), write('classifier', 2)]
    (tmp_path / 'pictures').mkdir()
    stages = read_stages(tmp_path)
    assert list(stages) == [places[1], places[2], places[0]]
    assert [card['stage'] for card in stages.values()] == ['data', 'classifier', 'csrm']
    assert read_stages(tmp_path / 'pictures') == {}


def test_what_was_set_aside_is_no_stage(write, tmp_path):
    place = write('csrm', 1)
    write('csrm', 1, 'csrm.set_aside_20261122_101112_changed_since_code', scores={'val': {'miou': 1.0}})
    (tmp_path / 'csrm.set_aside_20261123_101112_it_was_not_finished').mkdir()
    assert list(read_stages(tmp_path)) == sub_folders(tmp_path) == [place]


def test_two_folders_of_one_stage_and_absent_ones_are_named(write, tmp_path):
    write('csrm', 1)
    write('csrm', 1, 'copy')
    with pytest.raises(UserError, match='the folders copy and csrm both hold a card of the stage csrm'):
        read_stages(tmp_path)
    with pytest.raises(MissingFileError, match='nowhere` does not exist'):
        read_stages(tmp_path / 'nowhere')
