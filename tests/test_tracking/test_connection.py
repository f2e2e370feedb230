"""Whether a run can be sent: found out without W&B's client."""

import socket
import threading
import time

import pytest

from csrm_plugin.tracking import connection
from csrm_plugin.utils import UserError

SERVER = 'http://127.0.0.1:{}'


@pytest.fixture
def port():
    """A port that something listens at."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port():
    """A port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        number = listener.getsockname()[1]
    return number


def test_online_needs_a_key_and_a_server(no_wandb, monkeypatch, port, closed_port):
    monkeypatch.setenv('WANDB_BASE_URL', SERVER.format(port))
    assert connection.choose_mode() == ('offline', 'there is no key')
    monkeypatch.setenv('WANDB_API_KEY', 'k')
    assert connection.choose_mode() == ('online', None)
    monkeypatch.setenv('WANDB_BASE_URL', SERVER.format(closed_port))
    assert connection.choose_mode() == ('offline', f'127.0.0.1:{closed_port} cannot be reached')


@pytest.mark.parametrize(
    'variable, config, expected',
    [
        ('disabled', 'online', 'disabled'),
        ('offline', None, 'offline'),
        ('dryrun', 'online', 'offline'),
        (None, 'disabled', 'disabled'),
        ('', 'offline', 'offline'),
        ('online', 'disabled', 'online'),
        ('run', None, 'online'),
    ],
)
def test_the_environment_stands_above_the_config(no_wandb, monkeypatch, port, variable, config, expected):
    monkeypatch.setenv('WANDB_BASE_URL', SERVER.format(port))
    monkeypatch.setenv('WANDB_API_KEY', 'k')
    if variable is not None:
        monkeypatch.setenv('WANDB_MODE', variable)
    assert connection.choose_mode(config)[0] == expected


def test_a_mode_that_does_not_exist_is_refused(no_wandb):
    with pytest.raises(UserError, match=r'init_kwargs\.mode is `ofline`; give offline'):
        connection.choose_mode('ofline')


def test_settings_files_are_read(no_wandb, monkeypatch):
    assert connection.base_url() == 'https://api.wandb.ai'
    for folder, text in (('config', 'base_url = http://one/\nmode = offline'), ('wandb', 'base_url = http://two')):
        (no_wandb / folder).mkdir()
        (no_wandb / folder / 'settings').write_text(f'[default]\n{text}\n')
    assert connection.base_url() == 'http://two'
    assert connection.choose_mode()[0] == 'offline'
    (no_wandb / 'config' / 'settings').write_text('[default]\nmode = disabled\n')
    assert connection.choose_mode()[0] == 'disabled'
    (no_wandb / 'config' / 'settings').write_text('nothing that can be read')
    assert connection.choose_mode() == ('offline', 'there is no key')
    monkeypatch.setenv('WANDB_BASE_URL', 'http://three')
    assert connection.base_url() == 'http://three'


def test_keys_are_found_where_wandb_looks(no_wandb, monkeypatch):
    def netrc(path, host):
        path.write_text(f'machine {host}\n  login user\n  password secret\n')
        path.chmod(0o600)

    assert not connection.has_key()
    netrc(no_wandb / '.netrc', 'elsewhere')
    assert not connection.has_key()
    netrc(no_wandb / '.netrc', 'api.wandb.ai')
    assert connection.has_key()
    netrc(no_wandb / 'mine', 'other')
    monkeypatch.setenv('NETRC', str(no_wandb / 'mine'))
    assert not connection.has_key()
    monkeypatch.setenv('WANDB_BASE_URL', 'http://other')
    assert connection.has_key()
    (no_wandb / 'mine').write_text('machine\nmachine')
    assert not connection.has_key()
    (no_wandb / 'token').write_text('t')
    monkeypatch.setenv('WANDB_IDENTITY_TOKEN_FILE', '~/token')
    assert connection.has_key()


def test_a_name_that_takes_for_ever_is_left_behind(no_wandb, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, 'create_connection', lambda *_: release.wait(20) and socket.socket())
    begin = time.monotonic()
    assert not connection.can_reach('https://somewhere.invalid', 0.2)
    assert time.monotonic() - begin < 2
    release.set()


@pytest.mark.parametrize('answer', [200, 403])
def test_a_proxy_must_let_us_out(no_wandb, monkeypatch, answer):
    asked = []

    def serve(listener):
        client, _ = listener.accept()
        asked.append(client.recv(4096).decode())
        client.sendall(f'HTTP/1.1 {answer} x\r\n\r\n'.encode())
        client.close()

    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        monkeypatch.setenv('https_proxy', f'http://me:pass%20word@127.0.0.1:{listener.getsockname()[1]}')
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        assert connection.can_reach('https://api.wandb.ai') is (answer == 200)
        thread.join(5)
    assert asked[0].startswith('CONNECT api.wandb.ai:443 ')
    assert 'Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk' in asked[0]


def test_a_server_of_this_machine_needs_no_proxy(no_wandb, monkeypatch, port, closed_port):
    monkeypatch.setenv('http_proxy', SERVER.format(closed_port))
    assert connection.can_reach(SERVER.format(port))
    assert not connection.can_reach('http://somewhere.invalid')
    monkeypatch.setenv('no_proxy', 'somewhere.invalid')
    monkeypatch.setattr(socket, 'create_connection', lambda *_: socket.socket())
    assert connection.can_reach('http://somewhere.invalid')
