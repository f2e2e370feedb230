import sys
from types import SimpleNamespace

import pytest

from csrm_plugin.tracking.wandb_files import RunNote
from csrm_plugin.tracking.wandb_start import import_client, open_run, tell_where
from csrm_plugin.tracking.wandb_voice import Voice


class Client:
    """A client that refuses some modes."""

    def __init__(self, *refused):
        self.refused, self.asked = refused, []

    def Settings(self, **given):
        return given

    def setup(self, settings):
        self.asked.append(('setup', settings))

    def init(self, mode, dir):
        self.asked.append((mode, dir))
        if mode in self.refused:
            raise RuntimeError(f'no {mode}')
        return f'run {mode}'


def open_(client, folder, mode='online', reason=None):
    return open_run(client, lambda mode: dict(mode=mode, dir=str(folder)), mode, reason, Voice())


def test_a_server_that_takes_the_run(no_wandb):
    client = Client()
    assert open_(client, no_wandb / 'new') == ('run online', 'online', None)
    assert client.asked == [('setup', {'silent': True}), ('online', str(no_wandb / 'new'))]
    assert (no_wandb / 'new').is_dir()


def test_a_server_that_refuses_means_offline(no_wandb, logged):
    assert open_(Client('online'), no_wandb) == ('run offline', 'offline', 'the server did not take it (no online)')
    assert logged == []


def test_a_client_that_cannot_start_at_all_is_said(no_wandb, logged):
    run, mode, _ = open_(Client('online', 'offline'), no_wandb)
    assert (run, mode) == (None, 'offline')
    assert logged == ['W&B: this run is not tracked: no offline; the training goes on.']


def test_who_wants_to_hear_the_client_does(no_wandb, monkeypatch):
    monkeypatch.setenv('WANDB_SILENT', 'false')
    client = Client()
    open_(client, no_wandb, 'offline', 'asked for')
    assert [what for what, _ in client.asked] == ['offline']


@pytest.mark.parametrize('module', [None, SimpleNamespace(teardown=lambda: None)])
def test_without_the_client_there_is_one_line(no_wandb, monkeypatch, logged, module):
    """A folder named wandb can be imported as well."""
    monkeypatch.setitem(sys.modules, 'wandb', module)
    assert import_client() is None
    assert len(logged) == 1 and 'not installed' in logged[0]


def test_where_the_run_is(no_wandb, logged):
    for part in ('first', 'second'):
        (no_wandb / part / 'files').mkdir(parents=True)
        (no_wandb / part / 'run.wandb').write_bytes(b'x' * 99)
    note = RunNote('id')
    for part in ('first', 'second'):
        note.add_part(str(no_wandb), str(no_wandb / part), 'offline')
    run = SimpleNamespace(dir=str(no_wandb / 'second' / 'files'), name='mine', url='https://w/1')
    tell_where(run, 'offline', 'there is no key', note, str(no_wandb))
    assert logged == [
        'W&B: there is no key, so the run is kept in second; `wandb sync first second` sends it later.',
    ]
    tell_where(run, 'online', None, note, str(no_wandb))
    assert logged[-1] == 'W&B: run mine at https://w/1'
