"""One config with several seeds, a grid over ``randomness.seed``: mean and standard deviation of its scores."""

import os
import os.path as osp
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmengine.config import Config
from rich.console import Console

from csrm_plugin.config import provenance
from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.config.code import code_hash, modules_of_settings
from csrm_plugin.config.load import load_config
from csrm_plugin.engine.training import check_load_from, find_latest_checkpoint
from csrm_plugin.experiments.children import (
    Step,
    job_environment,
    new_log,
    project_path,
    run_jobs,
    train_command,
    visible_gpus,
)
from csrm_plugin.experiments.done import changed_parts, why_again
from csrm_plugin.experiments.pipeline.contents import content_of
from csrm_plugin.experiments.pipeline.folders import only_one
from csrm_plugin.experiments.seed_summary import headline, summarise, write_summary
from csrm_plugin.tracking import record
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.utils.processes import available_cores
from csrm_plugin.utils.set_aside import set_aside

#: What a seed's folder was made from, and its scores. It is there from the start, as the mark of a folder of ours.
SEED_FILE = 'seed.json'

#: Modules that decide on a training and its test, whatever the config.
CODE = ('csrm_plugin.engine.training', 'csrm_plugin.engine.testing')


def repeat(
    config: str,
    seeds: Sequence[int],
    root: str,
    console: Console,
    cfg_options: Sequence[str] = (),
    work_dir: str | None = None,
    splits: Sequence[str] = (),
    jobs: int = 1,
    processes: int = 1,
) -> dict:
    """Train and test a config once per seed, and summarise.

    Each seed has its own folder ``seed_<S>``. A second call skips the trainings that are finished with the same
    settings, code, data and starting checkpoint, and scores only splits that have no score yet. A seed that was
    interrupted is resumed if these are still the same; otherwise what is there is set aside under another name.

    Args:
        config (str): Config file.
        seeds (Sequence[int]): Different seeds, at least 0.
        root (str): Folder of the project, with ``tools``.
        console (rich.console.Console): Where progress and the table are printed.
        cfg_options (Sequence[str]): ``key=value`` as on the command line, the same for all seeds.
        work_dir (str, optional): Defaults to ``./work_dirs/repeat_<config name>``.
        splits (Sequence[str]): Splits to score; the config's test split by default.
        jobs (int): Seeds trained at a time; the visible GPUs are shared out among them in turn.
        processes (int): Processes of each training, by torchrun, each on a GPU of its own where there are GPUs.

    Returns:
        dict: What ``repeat.json`` holds: ``seeds``, and for each split and metric ``mean``, ``std`` (n - 1; None for
        one seed), ``values``.

    Raises:
        UserError: If arguments make no sense, or a seed failed. No further seed is started then.
    """
    seeds = _checked_seeds(seeds)
    gpus = _checked_gpus(jobs, processes)
    cfg = load_config(config, _parsed(cfg_options))
    check_load_from(cfg)
    work_dir = work_dir or osp.join('work_dirs', f'repeat_{osp.splitext(osp.basename(config))[0]}')
    plan = Plan(config, list(cfg_options), root, work_dir, _split_lists(cfg, splits), processes, key_of(cfg, processes))
    os.makedirs(work_dir, exist_ok=True)
    with only_one(work_dir):
        runs = [SeedRun(plan, seed) for seed in seeds]
        todo = [run for run in runs if not run.is_done(console)]
        at_once, cores = min(jobs, len(todo)) or 1, available_cores()
        run_jobs(
            (run.steps(console) for run in todo),
            at_once,
            lambda place: job_environment(place, at_once, processes, gpus, cores, os.environ),
            console,
        )
        result = _result(plan, runs)
        write_summary(result, work_dir, console)
    return result


def key_of(cfg: Config, processes: int) -> dict:
    """What a training stands on beside its seed: hashes of settings, code, data and starting checkpoint.

    Args:
        cfg (mmengine.config.Config): Resolved.
        processes (int): Of each training.
    """
    sources = provenance.config_sources(cfg)
    for name, value in sources.items():
        if os.path.isfile(str(value)):
            sources[name] = provenance.file_hash(value)
        elif name.endswith('pseudo_label_dir') and os.path.isdir(str(value)):
            sources[name] = [value, content_of(value)]
    settings = provenance.config_settings(cfg)
    return dict(
        settings=provenance.config_hash(settings),
        code=code_hash([*modules_of_settings(settings), *CODE]),
        sources=sources,
        processes=processes,
    )


@dataclass(frozen=True)
class Plan:
    """What is the same for all seeds.

    Args:
        config (str): Config file.
        cfg_options (list[str]): ``key=value`` texts.
        root (str): Folder of the project.
        work_dir (str): Where the folders of the seeds are.
        lists (dict[str, str]): Split to its list of ids.
        processes (int): Of each training.
        key (dict): From :func:`key_of`.
    """

    config: str
    cfg_options: list[str]
    root: str
    work_dir: str
    lists: dict[str, str]
    processes: int
    key: dict


class SeedRun:
    """One seed: its folder, what is done there, and the commands that are left.

    Args:
        plan (Plan): What is the same for all seeds.
        seed (int): This one.

    Raises:
        UserError: If its folder is there and was not made by a repetition.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.seed, self.name = plan, seed, f'seed {seed}'
        self.folder = osp.join(plan.work_dir, f'seed_{seed}')
        #: What ``seed.json`` holds; None where the folder is empty or not there.
        self.entry = self._read()

    def is_done(self, console: Console) -> bool:
        """Whether all scores are there; says so, or why it is trained again.

        Raises:
            UserError: If it is finished with other settings.
        """
        if self.entry is None:
            return False
        if self.entry['trained'] and 'settings' in changed_parts(self.entry['key'], self.plan.key):
            raise UserError(
                f'`{self.folder}` holds a run with other settings; give another --work-dir, or remove that folder'
            )
        why = self._why_again()
        if why is not None:
            how = 'goes on' if self._may_go_on() else 'trains anew'
            self._say(console, f'{how}, {why}')
            return False
        missing = [split for split in self.plan.lists if split not in self.entry['scores']]
        if not missing:
            self._say(console, 'skipped, it is finished')
        return not missing

    def steps(self, console: Console) -> Iterator[Step]:
        """The commands that are left, for :func:`csrm_plugin.experiments.children.run_jobs`: training, then tests."""
        if self.entry is None or self._why_again() is not None:
            yield from self._train(console)
        for split, ann_file in self.plan.lists.items():
            if split not in self.entry['scores']:
                yield from self._test(split, ann_file)
        self._say(console, headline(self.entry['scores']))

    def _say(self, console: Console, text: str) -> None:
        console.print(f'{self.name}: {text}', highlight=False, soft_wrap=True)

    def _path(self, *names: str) -> str:
        return osp.join(self.folder, *names)

    def _read(self) -> dict | None:
        path = self._path(SEED_FILE)
        if osp.isfile(path):
            entry = record.read_json(path)
            if not all(isinstance(entry.get(name), dict) for name in ('key', 'scores', 'context')):
                raise UserError(f'`{path}` is not of tools/repeat.py; give another --work-dir, or remove that folder')
            return {'trained': False, **entry}
        if osp.isdir(self.folder) and os.listdir(self.folder):
            raise UserError(f'`{self.folder}` was not made by tools/repeat.py; give another --work-dir')
        return None

    def _write(self) -> None:
        write_json(self._path(SEED_FILE), self.entry)

    def _why_again(self) -> str | None:
        return why_again(self.entry['trained'], self.entry['key'], self.plan.key)

    def _may_go_on(self) -> bool:
        """Whether an interrupted training may be resumed: it is the same one."""
        return not self.entry['trained'] and not changed_parts(self.entry['key'], self.plan.key)

    def _train(self, console: Console) -> Iterator[Step]:
        """Train, or go on with an interrupted training; what belongs to another one is set aside."""
        resume = self.entry is not None and self._may_go_on()
        if resume:
            # One that was interrupted before its first checkpoint starts from the beginning, as if nothing had been.
            self.entry['resumed'] = self.entry.get('resumed') or find_latest_checkpoint(self.folder) is not None
        else:
            if self.entry is not None:
                self._say(console, f'what was there is in {set_aside(self.folder, self._why_again())}')
            self.entry = dict(seed=self.seed, key=self.plan.key, trained=False, resumed=False, scores={}, context={})
        self._write()
        log = new_log(self._path('train.log'))
        self._say(console, f'trains; log: {log}')
        arguments = ['--work-dir', self.folder, *(['--resume'] if resume else []), *self._options()]
        plan = self.plan
        yield self._step('train', train_command(plan.root, plan.config, arguments, plan.processes), log)
        if find_latest_checkpoint(self.folder) is None:
            raise UserError(f'{self.name} left no checkpoint in `{self.folder}`; its log is {log}')
        self.entry['trained'] = True
        self._write()

    def _test(self, split: str, ann_file: str) -> Iterator[Step]:
        """Score it on a split."""
        name, target = f'test_{split}', self._path(f'test_{split}.json')
        command = [sys.executable, osp.join(self.plan.root, 'tools', 'test.py'), self.plan.config]
        command += [find_latest_checkpoint(self.folder), '--work-dir', self._path('test'), '--json', target]
        options = self._options(f'test_dataloader.dataset.ann_file={ann_file}')
        yield self._step(name, [*command, *options], self._path(f'{name}.log'))
        report = record.read_json(target)
        self.entry['scores'][split] = {k: value for k, value in report.items() if isinstance(value, (int, float))}
        self.entry['context'][split] = report.get('context', {})
        self._write()

    def _options(self, *more: str) -> list[str]:
        return ['--cfg-options', *self.plan.cfg_options, f'randomness.seed={self.seed}', *more]

    def _step(self, name: str, command: Sequence[str], log: str) -> Step:
        group = os.environ.get('WANDB_RUN_GROUP') or osp.basename(osp.abspath(self.plan.work_dir))
        return Step(self.name, name, command, log, project_path(self.plan.root) | {'WANDB_RUN_GROUP': group})


def _result(plan: Plan, runs: Sequence[SeedRun]) -> dict:
    """Content of ``repeat.json``."""
    return dict(
        format=1,
        config=plan.config,
        cfg_options=plan.cfg_options,
        seeds=[run.seed for run in runs],
        resumed=[run.seed for run in runs if run.entry.get('resumed')],
        key=plan.key,
        splits=summarise({run.seed: {split: run.entry['scores'][split] for split in plan.lists} for run in runs}),
        context={split: runs[0].entry['context'][split] for split in plan.lists},
    )


def _split_lists(cfg: Config, splits: Sequence[str]) -> dict[str, str]:
    """Split to its list of ids: the config's own, with another name where another split is asked for."""
    ann_file = cfg.get('test_dataloader', {}).get('dataset', {}).get('ann_file')
    if not ann_file:
        raise UserError('the config names no test_dataloader.dataset.ann_file')
    folder, name = osp.split(ann_file)
    stem, ending = osp.splitext(name)
    return {split: osp.join(folder, split + ending) for split in splits or [stem]}


def _parsed(cfg_options: Sequence[str]) -> Mapping:
    """``key=value`` texts as a dict."""
    options = {}
    for item in cfg_options:
        key, equals, text = item.partition('=')
        if not key or not equals:
            raise UserError(f'--cfg-options: `{item}` is not of the form KEY=VALUE')
        if key == 'randomness.seed':
            raise UserError('--cfg-options randomness.seed: the seeds are those of --seeds')
        try:
            options[key] = OptionsAction.parse_value(text)
        except ValueError as error:
            raise UserError(f'--cfg-options {key}: {error}') from error
    return options


def _checked_seeds(seeds: Sequence[int]) -> list[int]:
    seeds = list(seeds)
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise UserError(f'--seeds must be different numbers of at least 0, but are {" ".join(map(str, seeds))}')
    return seeds


def _checked_gpus(jobs: int, processes: int) -> list[str]:
    """The visible GPUs; there may be none."""
    if jobs < 1 or processes < 1:
        raise UserError('--jobs and --processes must be at least 1')
    gpus = visible_gpus()
    if 0 < len(gpus) < processes:
        raise UserError(
            f'--processes {processes} needs {processes} GPUs, but this process sees {len(gpus)} '
            f'({", ".join(gpus)}); give --processes {len(gpus)}, or more GPUs in CUDA_VISIBLE_DEVICES'
        )
    return gpus
