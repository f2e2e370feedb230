"""Whether a run can be sent to Weights & Biases: found out without its client, in at most a few seconds.

The client itself would ask for a login, or wait for a minute and a half. Here a missing key or network means offline.
"""

import base64
import configparser
import netrc
import os
import os.path as osp
import socket
import threading
import urllib.request
from http.client import HTTPConnection, HTTPException
from urllib.parse import unquote, urlsplit

from csrm_plugin.utils import UserError
from csrm_plugin.utils.spelling import nearest

DEFAULT_URL = 'https://api.wandb.ai'

#: Longest time to wait for the server, in seconds, the name look-up included.
REACH_SECONDS = 3.0

#: Values of ``WANDB_MODE``, with what they mean here.
MODES = {
    'online': 'online',
    'run': 'online',
    'shared': 'online',
    'offline': 'offline',
    'dryrun': 'offline',
    'disabled': 'disabled',
}

_TRUE = ('1', 'true', 't', 'yes', 'y', 'on')


def choose_mode(mode: str | None = None) -> tuple[str, str | None]:
    """How to run the client: ``'online'``, ``'offline'`` or ``'disabled'``, and why, where it is offline.

    ``WANDB_MODE`` comes first, then ``mode``, then W&B's settings files. Even if asked for, online needs a key and a
    server that can be reached.

    Args:
        mode (str, optional): The mode that the config asks for.

    Raises:
        UserError: If a mode is none of W&B's.
    """
    wanted = asked_mode(mode)
    if wanted == 'disabled':
        return 'disabled', None
    if wanted == 'offline':
        return 'offline', 'offline mode is asked for'
    if not has_key():
        return 'offline', 'there is no key'
    if not can_reach(base_url()):
        return 'offline', f'{urlsplit(base_url()).netloc} cannot be reached'
    return 'online', None


def asked_mode(mode: str | None = None) -> str | None:
    """The mode that is asked for, see :func:`choose_mode`; None where nothing is said."""
    if flag('WANDB_DISABLED'):
        return 'disabled'
    for place, value in (
        ('WANDB_MODE', os.environ.get('WANDB_MODE')),
        ('init_kwargs.mode', mode),
        ("the mode in W&B's settings file", read_settings().get('mode')),
    ):
        if value:
            if value not in MODES:
                wanted = nearest(value, MODES) or 'online, offline or disabled'
                raise UserError(f'{place} is `{value}`; give {wanted}')
            return MODES[value]
    return None


def base_url() -> str:
    """Address of the server."""
    return (os.environ.get('WANDB_BASE_URL') or read_settings().get('base_url') or DEFAULT_URL).rstrip('/')


def flag(name: str) -> bool:
    """Whether an environment variable says yes."""
    return os.environ.get(name, '').strip().lower() in _TRUE


def read_settings() -> dict[str, str]:
    """What W&B's settings files say: the user's, and above it that of the current folder."""
    config = os.environ.get('WANDB_CONFIG_DIR') or osp.join('~', '.config', 'wandb')
    root = os.environ.get('WANDB_DIR') or os.curdir
    found = {}
    local = next((name for name in ('.wandb', 'wandb') if osp.isdir(osp.join(root, name))), 'wandb')
    for path in (osp.join(osp.expanduser(config), 'settings'), osp.join(root, local, 'settings')):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            if parser.read(path, encoding='utf-8') and parser.has_section('default'):
                found.update(parser['default'])
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
    return found


def has_key() -> bool:
    """Whether there is something to log in with: a key, a token file, or an entry of netrc for the server."""
    if os.environ.get('WANDB_API_KEY') or read_settings().get('api_key'):
        return True
    token = os.environ.get('WANDB_IDENTITY_TOKEN_FILE')
    if token and osp.isfile(osp.expanduser(token)):
        return True
    try:
        entry = netrc.netrc(osp.expanduser(_netrc_file())).authenticators(urlsplit(base_url()).netloc)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return False
    return bool(entry and entry[2])


def can_reach(url: str, seconds: float = REACH_SECONDS) -> bool:
    """Whether a connection to a server, or through the proxy that leads to it, can be made in time.

    Args:
        url (str): Address of the server.
        seconds (float): Longest time to wait.
    """
    answer = []
    # A name look-up knows no time limit, so that the thread may have to be left behind.
    thread = threading.Thread(target=lambda: answer.append(_connect(url, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answer and answer[0])


def _netrc_file():
    """Path of the netrc file, as W&B looks for it."""
    if os.environ.get('NETRC'):
        return os.environ['NETRC']
    usual = osp.join('~', '.netrc')
    windows = osp.join('~', '_netrc')
    return windows if not osp.exists(osp.expanduser(usual)) and osp.exists(osp.expanduser(windows)) else usual


def _connect(url, seconds):
    """Whether a connection can be made; see :func:`can_reach`."""
    try:
        server = urlsplit(url)
        port = server.port or (443 if server.scheme == 'https' else 80)
        proxy = _proxy(server)
        if proxy is None:
            socket.create_connection((server.hostname, port), seconds).close()
            return True
        default = {'http': 80, 'https': 443}.get(proxy.scheme, 1080)
        connection = HTTPConnection(proxy.hostname, proxy.port or default, timeout=seconds)
        if server.scheme == 'https' and proxy.scheme == 'http':
            # Many proxies answer anyone; only this shows that they let us out.
            connection.set_tunnel(server.hostname, port, _proxy_login(proxy))
        connection.connect()
        connection.close()
        return True
    except (OSError, ValueError, HTTPException):
        return False


def _proxy(server):
    """The proxy for a server, as split URL; None where there is none."""
    if server.hostname in ('localhost', '127.0.0.1', '::1') or urllib.request.proxy_bypass(server.hostname):
        return None
    text = os.environ.get(f'WANDB_{server.scheme.upper()}_PROXY') or urllib.request.getproxies().get(server.scheme)
    if not text:
        return None
    return urlsplit(text if '://' in text else f'http://{text}')


def _proxy_login(proxy):
    """Headers for a proxy that wants a password."""
    if proxy.username is None:
        return {}
    login = f'{unquote(proxy.username)}:{unquote(proxy.password or "")}'
    return {'Proxy-Authorization': f'Basic {base64.b64encode(login.encode()).decode()}'}
