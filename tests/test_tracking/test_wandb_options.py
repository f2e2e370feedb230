from types import SimpleNamespace

import pytest

from csrm_plugin.tracking.wandb_files import RunNote
from csrm_plugin.tracking.wandb_options import FINISH_SECONDS, START_SECONDS, InitOptions
from csrm_plugin.utils import UserError


class Settings:
    """Settings of a client that does not know ``finish_timeout_raises`` yet."""

    silent = init_timeout = finish_timeout = None

    def __init__(self, **given):
        self.given = given


WANDB = SimpleNamespace(Settings=Settings)


def arguments(given=None, mode='online', note=None, save_dir='work/run/time/vis_data'):
    return InitOptions(given or {}).arguments(WANDB, mode, 'work/run', save_dir, note)


def test_what_the_config_leaves_open(no_wandb):
    found = arguments()
    assert (found['project'], found['job_type'], found['name']) == ('csrm', 'train', 'run')
    assert found['dir'] == str(no_wandb / 'work' / 'run' / 'time') and found['mode'] == 'online'
    assert len(found['id']) == 8 and found['id'] != arguments()['id'] and 'resume' not in found
    assert not {'entity', 'group', 'tags'} & found.keys()
    elsewhere = arguments(save_dir='other/vis_data')
    assert elsewhere['dir'] == str(no_wandb / 'work' / 'run')


def test_what_the_config_gives_comes_first(no_wandb, monkeypatch):
    for name in ('PROJECT', 'JOB_TYPE', 'NAME'):
        monkeypatch.setenv(f'WANDB_{name}', 'theirs')
    found = arguments(dict(project='mine', group='g', tags='one', name=None, id='x'))
    assert (found['project'], found['group'], found['tags'], found['id']) == ('mine', 'g', ['one'], 'x')
    assert not {'name', 'job_type', 'resume'} & found.keys()  # the variables stand in for these


@pytest.mark.parametrize('variable', ['WANDB_SWEEP_ID', 'WANDB_RUN_ID'])
def test_under_an_agent_the_identity_is_the_agents(no_wandb, monkeypatch, variable):
    monkeypatch.setenv(variable, 'theirs')
    found = arguments(note=RunNote('mine'))
    assert not {'id', 'resume'} & found.keys() and ('name' in found) is (variable == 'WANDB_RUN_ID')


def test_a_run_that_goes_on_keeps_its_id_and_asks_for_its_past_online_only(no_wandb):
    note = RunNote('abc')
    assert (arguments(note=note)['id'], arguments(note=note)['resume']) == ('abc', 'allow')
    offline = arguments(note=note, mode='offline')
    assert offline['id'] == 'abc' and 'resume' not in offline


def test_settings_of_the_client_as_far_as_it_knows_them(no_wandb, monkeypatch):
    usual = dict(silent=True, init_timeout=START_SECONDS, finish_timeout=FINISH_SECONDS)
    assert arguments()['settings'].given == usual
    assert arguments(dict(settings=dict(silent=False)))['settings'].given == {**usual, 'silent': False}
    for name in ('SILENT', 'INIT_TIMEOUT', 'FINISH_TIMEOUT'):
        monkeypatch.setenv(f'WANDB_{name}', '1')
    assert arguments()['settings'].given == {}


def test_arguments_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match='init_kwargs has no `proj`; `project`'):
        InitOptions(dict(proj='x'))
    with pytest.raises(UserError, match=r'init_kwargs has no `zzz`$'):
        InitOptions(dict(zzz='x'))
    assert InitOptions(dict(mode='offline')).mode == 'offline' and InitOptions({}).mode is None
