"""A stand-in for the W&B server, as much of it as `wandb sweep`, `wandb agent`, `wandb sync` and online runs ask for.

It answers on the loopback interface, in a thread of the test, and keeps what it was sent where a test can look: runs
with config, rows, summary and exit code, uploaded files, artifacts, and under ``unknown`` every request that it could
not answer. Checked with wandb 0.31; another version may ask for more, which ``unknown`` then shows.
"""

import base64
import collections
import contextlib
import gzip
import itertools
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

KEY = 'k' * 40
ENTITY = 'somebody'


class WandbServer:
    """The server; use it in a ``with`` statement.

    Attributes:
        url (str): What ``WANDB_BASE_URL`` must be.
        runs (dict): Run id to dict of ``config``, ``rows`` (list of dicts), ``summary``, ``exit_code``, ``sweep``,
            ``project``, ``name``, ``group``, ``job_type``, ``tags`` and ``output`` (lines of the terminal).
        files (dict): ``(run id, file name)`` to bytes.
        artifacts (dict): Artifact id to dict of ``name``, ``type``, ``run``, ``aliases``, ``committed`` and ``files``
            (name to bytes).
        sweeps (dict): Sweep id to its settings and the parameters it has given out.
        asked (collections.Counter): How often each operation was asked for.
        unknown (list[str]): What could not be answered.
        reject (bool): Whether every key is refused.
    """

    def __init__(self):
        self.runs, self.files, self.artifacts, self.sweeps, self.agents = {}, {}, {}, {}, {}
        self.asked, self.unknown, self.reject = collections.Counter(), [], False
        self.lock = threading.RLock()
        handler = type('Handler', (_Handler,), {'server_state': self})
        self.http = _Http(('127.0.0.1', 0), handler)
        self.port = self.http.server_address[1]
        self.url = f'http://127.0.0.1:{self.port}'
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, query, variables):
        """The ``data`` of a GraphQL request."""
        match = re.match(r'\s*(?:query|mutation)\s+(\w+)', query)
        name = match.group(1) if match else 'anonymous'
        self.asked[name] += 1
        function = getattr(self, f'_{name}', None)
        if function is None:
            self.unknown.append(name)
            raise LookupError(f'the stand-in does not know {name}')
        return function(variables)

    def stream(self, run_id, body):
        """Take a part of a run's history, summary and output."""
        run = self.runs[run_id]
        for name, part in (body.get('files') or {}).items():
            lines, offset = part.get('content') or [], part.get('offset', 0)
            if name == 'wandb-history.jsonl':
                run['rows'][offset : offset + len(lines)] = [json.loads(line) for line in lines]
            elif name == 'wandb-summary.json' and lines:
                run['summary'] = json.loads(lines[-1])
            elif name == 'output.log':
                run['output'] += lines
        if body.get('complete'):
            run['exit_code'] = body.get('exitcode')
        return {'limits': {}}

    def upload(self, kind, owner, name, content):
        """Take a file of a run, or of an artifact."""
        if kind == 'run':
            self.files[owner, name] = content
        else:
            self.artifacts[owner]['files'][name] = content

    # Who asks, and what the server can.
    def _Viewer(self, _):
        teams = {'edges': [{'node': {'name': ENTITY}}]}
        return {'viewer': {'id': 'u', 'entity': ENTITY, 'username': ENTITY, 'email': '', 'flags': '{}', 'teams': teams}}

    def _ServerFeaturesQuery(self, _):
        return {'serverInfo': {'features': []}}

    def _OrganizationCoreWeaveOrganizationID(self, _):
        return {'entity': {'organization': None}}

    def _project(self, variables):
        name = variables.get('projectName') or variables.get('project') or 'uncategorized'
        return {'id': f'project-{name}', 'name': name, 'entity': {'id': 'e', 'name': ENTITY}}

    # Sweeps and agents.
    def _UpsertSweep(self, variables):
        settings = yaml.safe_load(variables['config'])
        name = f'sweep{len(self.sweeps) + 1}'
        self.sweeps[name] = {
            'settings': settings,
            'project': self._project(variables),
            'trials': _trials(settings),
            'given': [],
        }
        sweep = {'name': name, 'project': self.sweeps[name]['project']}
        return {'upsertSweep': {'sweep': sweep, 'configValidationWarnings': []}}

    def _SweepWithRuns(self, variables):
        name = variables.get('sweep') or variables.get('name')
        sweep = self.sweeps[name]
        empty = dict.fromkeys(
            ('description', 'createdAt', 'heartbeatAt', 'updatedAt', 'bestLoss', 'controller', 'scheduler')
        )
        known = {
            'id': name,
            'name': name,
            'state': 'RUNNING',
            'method': sweep['settings']['method'],
            'config': yaml.safe_dump(sweep['settings']),
            'earlyStopJobRunning': False,
            'runs': {'edges': []},
        }
        return {'project': {'sweep': {**empty, **known}}}

    def _CreateAgent(self, variables):
        name = f'agent{len(self.agents) + 1}'
        self.agents[name] = self.sweeps[variables['sweep']]
        return {'createAgent': {'agent': {'id': name}}}

    def _Heartbeat(self, variables):
        sweep, commands = self.agents[variables['id']], []
        if not json.loads(variables.get('runState') or '{}'):
            values = next(sweep['trials'], None)
            if values is None:
                commands = [{'id': 'end', 'type': 'exit'}]
            else:
                run_id = f'trial{len(sweep["given"])}'
                sweep['given'].append((run_id, values))
                arguments = {key: {'value': value} for key, value in values.items()}
                commands = [
                    {
                        'id': run_id,
                        'type': 'run',
                        'run_id': run_id,
                        'args': arguments,
                        'program': sweep['settings'].get('program'),
                    }
                ]
        return {'agentHeartbeat': {'agent': {'id': variables['id']}, 'commands': json.dumps(commands)}}

    # Runs.
    def _UpsertBucket(self, variables):
        run_id = (variables.get('name') or variables.get('id')).removeprefix('run-')
        new = run_id not in self.runs
        run = self.runs.setdefault(
            run_id,
            {
                'config': {},
                'rows': [],
                'summary': {},
                'exit_code': None,
                'output': [],
                'sweep': None,
                'name': None,
                'group': None,
                'job_type': None,
                'tags': None,
                'project': self._project(variables),
            },
        )
        for key, variable in {
            'sweep': 'sweep',
            'name': 'displayName',
            'group': 'groupName',
            'job_type': 'jobType',
            'tags': 'tags',
        }.items():
            run[key] = variables.get(variable) or run[key]
        if variables.get('config'):
            run['sent_config'] = variables['config']
            run['config'] = {key: item.get('value') for key, item in json.loads(variables['config']).items()}
        bucket = {
            'id': f'run-{run_id}',
            'name': run_id,
            'displayName': run['name'] or run_id,
            'description': None,
            'config': '{}',
            'sweepName': run['sweep'],
            'project': run['project'],
            'historyLineCount': len(run['rows']),
        }
        return {'upsertBucket': {'inserted': new, 'bucket': bucket}}

    def _RunResumeStatus(self, variables):
        run = self.runs.get(variables['name'])
        bucket = run and {
            'id': f'run-{variables["name"]}',
            'name': variables['name'],
            'displayName': run['name'],
            'notes': None,
            'summaryMetrics': json.dumps(run['summary']),
            'logLineCount': len(run['output']),
            'eventsLineCount': 0,
            'historyLineCount': len(run['rows']),
            'eventsTail': '[]',
            'config': run.get('sent_config', '{}'),
            'historyTail': json.dumps([json.dumps(row) for row in run['rows'][-1:]]),
            'tags': run['tags'] or [],
            'wandbConfig': '{"t": 1}',
        }
        return {'model': {**self._project(variables), 'bucket': bucket}}

    def _CreateRunFiles(self, variables):
        run_id = variables['run']
        files = [{'name': name, 'uploadUrl': f'{self.url}/put/run/{run_id}/{name}'} for name in variables['files']]
        return {'createRunFiles': {'runID': f'run-{run_id}', 'uploadHeaders': [], 'files': files}}

    # Artifacts.
    def _ArtifactType(self, _):
        return {'project': {'artifact': None}}

    def _CreateArtifact(self, variables):
        given, name = variables['input'], f'artifact{len(self.artifacts) + 1}'
        self.artifacts[name] = {
            'name': given['artifactCollectionName'],
            'type': given['artifactTypeName'],
            'run': given.get('runName'),
            'aliases': [item['alias'] for item in given.get('aliases') or []],
            'committed': False,
            'files': {},
        }
        artifact = {'id': name, 'state': 'PENDING', 'artifactSequence': {'latestArtifact': None}}
        return {'createArtifact': {'artifact': artifact}}

    def _CreateArtifactManifest(self, variables):
        file = {'id': 'f', 'uploadUrl': f'{self.url}/put/manifest/{variables["artifactID"]}/x', 'uploadHeaders': []}
        return {
            'createArtifactManifest': {'artifactManifest': {'id': f'manifest-{variables["artifactID"]}', 'file': file}}
        }

    def _UpdateArtifactManifest(self, variables):
        owner = variables['artifactManifestID'].removeprefix('manifest-')
        file = {'id': 'f', 'uploadUrl': f'{self.url}/put/manifest/{owner}/x', 'uploadHeaders': []}
        return {'updateArtifactManifest': {'artifactManifest': {'id': variables['artifactManifestID'], 'file': file}}}

    def _CreateArtifactFiles(self, variables):
        edges = []
        for item in variables['input']['artifactFiles']:
            owner, name = item['artifactID'], item['name']
            node = {
                'storagePath': name,
                'uploadUrl': f'{self.url}/put/artifact/{owner}/{name}',
                'uploadHeaders': [],
                'uploadMultipartUrls': None,
                'artifact': {'id': owner},
            }
            edges.append({'node': node})
        return {'createArtifactFiles': {'files': {'edges': edges}}}

    def _CommitArtifact(self, variables):
        name = variables['artifactID']
        self.artifacts[name]['committed'] = True
        return {'commitArtifact': {'artifact': {'id': name, 'digest': 'd'}}}


def _trials(settings):
    """Parameters of one trial after another: every combination of a grid, else always the first or least value."""
    names = sorted(settings['parameters'])
    axes = []
    for name in names:
        given = settings['parameters'][name]
        axes.append([given['value']] if 'value' in given else given.get('values') or [given['min']])
    if settings['method'] == 'grid':
        return iter([dict(zip(names, values)) for values in itertools.product(*axes)])
    return itertools.repeat({name: axis[0] for name, axis in zip(names, axes)})


class _Http(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 64

    def handle_error(self, request, client_address):
        """Say nothing: the client drops its connections when it ends."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version, timeout, server_state = 'HTTP/1.1', 60, None

    def log_message(self, *_):
        """Keep the terminal of the test clean."""

    def do_POST(self):
        state = self.server_state
        content = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if self.headers.get('Content-Encoding') == 'gzip':
            content = gzip.decompress(content)
        with state.lock:
            status, answer = self._respond(state, content)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST

    def _respond(self, state, content):
        if match := re.fullmatch(r'/put/(run|artifact|manifest)/([^/]+)/(.+)', self.path):
            if match[1] != 'manifest':
                state.upload(*match.groups(), content)
            return 200, {}
        key = base64.b64encode(f'api:{KEY}'.encode()).decode()
        if state.reject or self.headers.get('Authorization') != f'Basic {key}':
            return 401, {'errors': [{'message': 'this key is not known'}]}
        try:
            if self.path == '/graphql':
                body = json.loads(content)
                return 200, {'data': state.answer(body['query'], body.get('variables') or {})}
            if match := re.fullmatch(r'/files/[^/]+/[^/]+/([^/]+)/file_stream', self.path):
                return 200, state.stream(match[1], json.loads(content))
        except LookupError as error:
            # Not a server error: the client would repeat the request for a long time.
            state.unknown.append(f'{self.path}: {error!r}')
            return 200, {'data': None, 'errors': [{'message': str(error)}]}
        state.unknown.append(f'{self.command} {self.path}')
        return 404, {'errors': [{'message': 'not known'}]}
