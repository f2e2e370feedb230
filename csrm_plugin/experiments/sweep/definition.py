"""Read a sweep file of Weights & Biases, and say what is done otherwise here."""

import os.path as osp
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import yaml
from packaging.version import Version

from csrm_plugin.experiments.sweep.pruner import brackets
from csrm_plugin.experiments.sweep.space import (
    Parameter,
    format_argument,
    parse_parameter,
    read_back,
)
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.spelling import did_you_mean

KEYS = (
    'program',
    'command',
    'method',
    'metric',
    'parameters',
    'early_terminate',
    'run_cap',
    'name',
    'description',
    'project',
    'entity',
)
#: Keys that W&B knows and that have no meaning without its server.
SERVER_KEYS = ('apiVersion', 'kind', 'controller', 'job', 'image_uri', 'scheduler', 'metrics')
#: First Optuna whose Gaussian process looks at trials that still run.
SEES_RUNNING = Version('5.0')
#: What W&B runs where a file has no ``command``.
DEFAULT_COMMAND = ('${env}', '${interpreter}', '${program}', '${args}')
#: Keys that say what a trial is and what it is compared by: a study has one value of each.
BINDING_KEYS = ('program', 'command', 'method', 'metric', 'parameters', 'early_terminate')
#: Random trials before the model of a Bayes search begins.
STARTUP = {'gp': 5, 'tpe': 10}


@dataclass(frozen=True)
class Metric:
    """What trials are compared by.

    Args:
        name (str): As logged.
        maximize (bool): Whether more is better.
        target (float, optional): The sweep ends once a trial logs it or better.
    """

    name: str
    maximize: bool
    target: float | None = None

    @property
    def goal(self) -> str:
        """``maximize`` or ``minimize``."""
        return 'maximize' if self.maximize else 'minimize'

    def reached(self, value: float) -> bool:
        """Whether a value is as good as the target."""
        if self.target is None:
            return False
        return value >= self.target if self.maximize else value <= self.target


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Args:
        path (str): The file.
        content (dict): As in the file.
        method (str): ``grid``, ``random`` or ``bayes``.
        metric (Metric): What trials are compared by.
        parameters (tuple[Parameter, ...]): By name.
        early_terminate (dict, optional): ``stops`` (list[int]) and ``eta`` (float) of
            :class:`csrm_plugin.experiments.sweep.pruner.HyperbandRule`.
        run_cap (int, optional): Most trials.
        command (tuple[str, ...]): Items of the command, with macros.
        program (str, optional): For the macro ``${program}``.
        notes (tuple[str, ...]): What is done otherwise than by W&B, in sentences.
    """

    path: str
    content: dict
    method: str
    metric: Metric
    parameters: tuple[Parameter, ...]
    early_terminate: dict | None = None
    run_cap: int | None = None
    command: tuple[str, ...] = DEFAULT_COMMAND
    program: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that are no constants."""
        return tuple(parameter for parameter in self.parameters if parameter.kind != 'constant')

    @property
    def sampler(self) -> str:
        """``random``, ``gp`` or ``tpe`` (Bayes with early termination, whose stopped trials a GP leaves out)."""
        return {'bayes': 'tpe' if self.early_terminate else 'gp'}.get(self.method, 'random')

    def binding(self) -> dict:
        """What a study belongs to."""
        return {key: self.content[key] for key in BINDING_KEYS if key in self.content}


def read_sweep(path: str) -> Sweep:
    """Read and check a sweep file.

    Raises:
        MissingFileError: If it is not there.
        UserError: If it is malformed, or says something that cannot be done here as W&B does it.
    """
    if not osp.isfile(path):
        raise MissingFileError(f'sweep file `{path}` does not exist')
    try:
        with open(path, encoding='utf-8') as file:
            content = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'sweep file `{path}` is no YAML: {error}') from error
    try:
        return parse_sweep(content, path)
    except UserError as error:
        raise UserError(f'sweep file `{path}`: {error}') from error


def parse_sweep(content: Any, path: str = '') -> Sweep:
    """Check what a sweep file holds; see :func:`read_sweep`."""
    if not isinstance(content, dict):
        raise UserError('it must hold keys such as method, metric and parameters')
    for key in content:
        if key in SERVER_KEYS:
            raise UserError(f"`{key}` is for W&B's own service; leave it out")
        if key not in KEYS:
            raise UserError(f'unknown key `{key}`{did_you_mean(key, KEYS)}')
    method = content.get('method')
    if method not in ('grid', 'random', 'bayes'):
        raise UserError(f'`method` must be grid, random or bayes, but is {method!r}')
    for key in ('program', 'name', 'description', 'project', 'entity'):
        if not isinstance(content.get(key, ''), str):
            raise UserError(f'`{key}` must be a text, but is {content[key]!r}')
    run_cap = content.get('run_cap')
    if run_cap is not None and not _whole(run_cap, 1):
        raise UserError(f'`run_cap` must be a whole number of at least 1, but is {run_cap!r}')
    command = content.get('command', list(DEFAULT_COMMAND))
    if not isinstance(command, list) or not command:
        raise UserError('`command` must be a list of the parts of a command')
    parameters = _parameters(content.get('parameters'))
    if method == 'grid':
        parameters = tuple(parameter.as_list() for parameter in parameters)
    elif all(parameter.kind == 'constant' for parameter in parameters):
        raise UserError(f'all parameters are constants, so that method {method} has nothing to search')
    sweep = Sweep(
        path,
        content,
        method,
        _metric(content.get('metric')),
        parameters,
        _early_terminate(content),
        run_cap,
        tuple(command),
        content.get('program'),
    )
    return Sweep(**{**sweep.__dict__, 'notes': tuple(_notes(sweep))})


def _parameters(content: Any) -> tuple[Parameter, ...]:
    if not isinstance(content, dict) or not content:
        raise UserError('`parameters` must hold at least one parameter')
    found = [parse_parameter(name, spec) for name, spec in content.items()]
    return tuple(sorted(found, key=lambda parameter: parameter.name))


def _metric(content: Any) -> Metric:
    if not isinstance(content, dict) or not isinstance(content.get('name'), str):
        raise UserError('`metric` must hold `name`, for example pseudo/mIoU, and `goal`: trials are compared by it')
    known = ('name', 'goal', 'target', 'impute', 'impute_while_running')
    for key in content:
        if key not in known:
            raise UserError(f'unknown key `metric.{key}`{did_you_mean(key, known[:3])}')
    if (
        content.get('impute', 'worst') != 'worst'
        or str(content.get('impute_while_running', 'false')).lower() != 'false'
    ):
        raise UserError('`metric.impute` and `metric.impute_while_running` cannot be done with Optuna; leave them out')
    goal, target = content.get('goal', 'minimize'), content.get('target')
    if goal not in ('minimize', 'maximize'):
        raise UserError(f'`metric.goal` must be minimize or maximize, but is {goal!r}')
    if target is not None and (isinstance(target, bool) or not isinstance(target, (int, float))):
        raise UserError(f'`metric.target` must be a number, but is {target!r}')
    return Metric(content['name'], goal == 'maximize', target)


def _early_terminate(content: dict) -> dict | None:
    """Brackets of ``early_terminate``."""
    rule = content.get('early_terminate')
    if rule is None:
        return None
    if not isinstance(rule, dict) or rule.get('type') != 'hyperband':
        raise UserError('`early_terminate.type` must be hyperband')
    known = ('type', 'min_iter', 'max_iter', 's', 'eta', 'strict')
    for key in rule:
        if key not in known:
            raise UserError(f'unknown key `early_terminate.{key}`{did_you_mean(key, known)}')
    if rule.get('strict'):
        raise UserError(
            "`early_terminate.strict` is not published, so it cannot be done as W&B's server does; leave it out"
        )
    eta = rule.get('eta', 3)
    if isinstance(eta, bool) or not isinstance(eta, (int, float)) or not eta > 1:
        raise UserError(f'`early_terminate.eta` must be above 1, but is {eta!r}')
    for key in ('min_iter', 'max_iter', 's'):
        if key in rule and not _whole(rule[key], 1):
            raise UserError(f'`early_terminate.{key}` must be a whole number of at least 1, but is {rule[key]!r}')
    if ('min_iter' in rule) == ('max_iter' in rule) or ('max_iter' in rule) != ('s' in rule):
        raise UserError('`early_terminate` needs either `min_iter`, or `max_iter` and `s`')
    stops = brackets(rule.get('min_iter'), rule.get('max_iter'), rule.get('s'), eta)
    if not stops:
        raise UserError('`early_terminate`: max_iter / eta is below 1, so there is no bracket; raise `max_iter`')
    return dict(stops=stops, eta=eta)


def _notes(sweep: Sweep) -> list[str]:
    """What is done otherwise than by W&B."""
    notes = []
    if sweep.sampler == 'gp':
        notes.append(
            f"Bayes: Optuna's Gaussian process (GPSampler; the first {STARTUP['gp']} trials are random) in place of "
            "W&B's (the first 2). It learns from the last value of each complete trial; W&B's takes the best value, "
            'and the worst of all for failed runs, which are left out here.'
        )
    if sweep.sampler == 'gp' and Version(metadata.version('optuna')) < SEES_RUNNING:
        notes.append(
            f'Bayes: the Gaussian process of Optuna {metadata.version("optuna")} does not see trials that still run, '
            f'so that with several at a time two may ask for the same point; that of Optuna {SEES_RUNNING} does.'
        )
    if sweep.sampler == 'tpe':
        notes.append(
            f"Bayes with early_terminate: Optuna's TPE sampler (the first {STARTUP['tpe']} trials are random) in place "
            "of W&B's Gaussian process, for Optuna's Gaussian process learns nothing from stopped trials. Failed "
            'trials are left out.'
        )
    if sweep.sampler == 'gp' and any(len(parameter.values) > 2 for parameter in sweep.searched):
        notes.append(
            'Bayes: listed `values` have no order for the model here; W&B takes them in the order of the list.'
        )
    if sweep.early_terminate:
        stops = [str(stop) for stop in sweep.early_terminate['stops']]
        notes.append(
            f'early_terminate: a trial is looked at each time it logs {sweep.metric.name}, after '
            f'{", ".join(stops[:4])}{", ..." if len(stops) > 4 else ""} logged values; W&B looks every few minutes.'
        )
    for parameter in sweep.parameters:
        for value in parameter.values:
            # Lists and dicts are written as text on purpose; `1e-3` is a text to YAML by accident.
            if isinstance(value, str) and not isinstance(read_back(value), (str, list, tuple, dict)):
                notes.append(
                    f'The text in {format_argument(parameter.name, value)} reaches the config as {read_back(value)!r}, '
                    'as it does under `wandb agent`.'
                )
    return notes


def _whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low
