"""Run the stages of a pipeline: skip what is up to date, run the rest as child processes, write a card for each."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import os.path as osp
import shlex
import shutil
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone

from mmengine.logging import MMLogger

from csrm_plugin.config import provenance
from csrm_plugin.config.load import load_config
from csrm_plugin.datasets import fingerprint
from csrm_plugin.experiments.pipeline import cards
from csrm_plugin.experiments.pipeline.recipes import TRUTH, Recipe, load_recipe
from csrm_plugin.experiments.pipeline.stages import STAGES, RunData, Stage, last_checkpoint
from csrm_plugin.utils import UserError, atomic_write, write_json
from csrm_plugin.utils.processes import failure_reason, log_tail, start_logged

#: File in the folder of a run that says what the run is; reports read it.
SUMMARY = 'pipeline.json'


class Run:
    """One run of a pipeline in its folder.

    Args:
        recipe (Recipe): What to do.
        root (str): Folder of the project, with ``tools`` and ``mmcfg``.
        folder (str): Where everything goes, one sub-folder per stage.
        gpus (int): Processes of each training, by torchrun.
    """

    def __init__(self, recipe: Recipe, root: str, folder: str, gpus: int = 1) -> None:
        self.recipe, self.root, self.folder, self.gpus = recipe, root, folder, gpus
        self.data = RunData(recipe, self.config_path(recipe.config))
        self.environment = self._environment()
        os.environ.update(self.environment)  # configs read the variables
        self._configs: dict = {}
        #: Stages that ran in this call or were up to date, and the identity of what came out.
        self.done: dict[str, str] = {}
        self.stages = {spec.name: STAGES[spec.kind](spec, self) for spec in recipe.stages}

    def _environment(self) -> dict:
        """Variables of the pipeline that are unset and for which there is a file."""
        found = {}
        for name, candidates in self.recipe.environment.items():
            paths = [osp.normpath(path.format(data_root=self.data.root)) for path in candidates]
            there = [path for path in paths if osp.isfile(path)]
            if name not in os.environ and there:
                found[name] = there[0]
        return found

    def config_path(self, config) -> str:
        """A config that a pipeline names: a file from here, else one of the project."""
        return config if osp.isfile(config) else osp.join(self.root, config)

    def load(self, config, options):
        """A resolved config, to be read only; read once for each set of overrides, for reading takes its time."""
        name = repr((config, sorted(options.items())))
        if name not in self._configs:
            self._configs[name] = load_config(self.config_path(config), options)
        return self._configs[name]

    def folder_of(self, name) -> str:
        """Folder of a stage."""
        return osp.join(self.folder, name)

    def stage(self, name) -> Stage:
        """A stage by its name."""
        self.recipe.stage(name)
        return self.stages[name]

    def checkpoint_of(self, name) -> str:
        """The checkpoint that a training stage ends with."""
        stage = self.stage(name)
        cfg = self.load(stage.options['config'], stage.options.get('options') or {})
        return last_checkpoint(stage.path('train'), cfg)

    def train_command(self, config, arguments) -> list[str]:
        """A training, in several processes where there are several GPUs."""
        resume = ['--resume'] if self.recipe.resume else []
        if self.gpus == 1:
            return ['tools/train.py', config, *arguments, *resume]
        return [
            '-m',
            'torch.distributed.run',
            '--standalone',
            f'--nproc_per_node={self.gpus}',
            'tools/train.py',
            config,
            '--launcher',
            'pytorch',
            *arguments,
            *resume,
        ]

    def write_summary(self) -> None:
        """Write :data:`SUMMARY`: what a report of the run asks beside its cards.

        ``stages`` are those that are done in this call; cards that other settings left are not among them.
        """
        recipe = self.recipe
        done = [spec.name for spec in recipe.stages if spec.name in self.done]
        write_json(
            osp.join(self.folder, SUMMARY),
            dict(name=recipe.name, dataset=recipe.dataset, seed=recipe.seed, splits=recipe.splits, stages=done),
        )


def run_pipeline(name, root, console, work_dir=None, seed=None, start=None, until=None, dry_run=False, gpus=1) -> dict:
    """Run a pipeline, or what is left of it.

    Args:
        name (str): A pipeline, see :func:`csrm_plugin.experiments.pipeline.recipes.load_recipe`.
        root (str): Folder of the project.
        console (rich.console.Console): Where to print.
        work_dir (str, optional): Default: ``work_dirs/pipeline_<name>``.
        seed (int, optional): In place of the pipeline's.
        start (str, optional): Stage from which on everything runs anew; those before it are taken as they are.
        until (str, optional): Last stage.
        dry_run (bool): Only say what would run, with the commands.
        gpus (int): Processes of each training.

    Returns:
        dict: ``ran``, ``skipped`` and ``left_out`` (names of stages), ``folder`` of the run, and ``table`` (path of
        ``table.json``) where the pipeline came so far.

    Raises:
        UserError: If a stage fails; the stages before it keep their results.
    """
    # Each of the many configs that are read would say again which variables it uses.
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    recipe = load_recipe(name, root)
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    numbers = [recipe.stage(stage).number for stage in (start, until) if stage is not None]
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise UserError(f'--until {until} comes before --from {start}')
    if gpus < 1:
        raise UserError(f'--gpus must be at least 1, but is {gpus}')
    run = Run(recipe, root, work_dir or osp.join('work_dirs', f'pipeline_{recipe.name}'), gpus)
    for variable, path in run.environment.items():
        console.print(f'{variable} is not set: taking {path}', highlight=False, soft_wrap=True)
    for variable in recipe.environment:
        if variable not in os.environ:
            console.print(f'[yellow]{variable} is not set and no file was found: those weights start random.[/yellow]')
    if dry_run:
        return _run_stages(run, console, start, until, dry_run)
    os.makedirs(run.folder, exist_ok=True)
    with only_one(run.folder):
        run.data.load()
        return _run_stages(run, console, start, until, dry_run)


def _run_stages(run, console, start, until, dry_run) -> dict:
    outcome: dict = dict(ran=[], skipped=[], left_out=[], folder=run.folder)
    forced, begin = False, time.monotonic()
    for spec in run.recipe.stages:
        stage = run.stages[spec.name]
        forced = forced or spec.name == start
        reason = stage.missing() if spec.options.get('optional') else None
        head = f'[bold]{spec.number:2d}/{len(run.recipe.stages)} {spec.name}[/bold]'
        if reason is not None:
            console.print(f'{head}: left out, {reason}', highlight=False, soft_wrap=True)
            outcome['left_out'].append(spec.name)
        else:
            parts = key_parts(stage, {need: run.done[need] for need in spec.needs if need in run.done})
            card = cards.read_card(stage.folder)
            why = 'asked for by --from' if forced else reason_to_run(stage, card, parts)
            if why is None:
                console.print(f'{head}: skipped, {_up_to_date(card)}', highlight=False, soft_wrap=True)
                outcome['skipped'].append(spec.name)
                run.done[spec.name] = identity(card)
            else:
                console.print(f'{head}: {"would run" if dry_run else "runs"}, {why}', highlight=False, soft_wrap=True)
                if dry_run:
                    run.done[spec.name] = 'to be made'
                    for command in stage.commands():
                        console.print(f'    python {shlex.join(command)}', highlight=False, soft_wrap=True)
                else:
                    run.done[spec.name] = identity(run_stage(stage, parts, console, fresh=forced))
                outcome['ran'].append(spec.name)
        if spec.name == until:
            break
    table = next((run.stages[spec.name] for spec in run.recipe.stages if spec.kind == 'table'), None)
    if not dry_run:
        run.write_summary()
        if table is not None and table.spec.name in run.done:
            outcome['table'] = table.path('table.json')
        seconds = time.monotonic() - begin
        console.print(
            f'{len(outcome["ran"])} stages ran, {len(outcome["skipped"])} were up to date; {seconds / 60:.1f} minutes.',
            highlight=False,
        )
    return outcome


def _up_to_date(card) -> str:
    return (
        f'inputs, code and settings are those of {card["time"]["started"][:16].replace("T", " ")} UTC, when it took '
        f'{card["time"]["seconds"] / 60:.1f} minutes'
    )


def key_parts(stage: Stage, inputs: dict) -> dict:
    """What a stage stands on; a change of any part makes it run again.

    Args:
        stage (Stage): The stage.
        inputs (dict[str, str]): :func:`identity` of each stage that it stands on.

    Returns:
        dict: ``settings``, ``config``, ``seed``, ``code`` (hashes), ``inputs`` and, for the data stage, ``data``.
    """
    parts = dict(
        settings=provenance.config_hash(stage.settings()),
        code=provenance.code_hash(stage.code),
        seed=stage.run.recipe.seed,
        inputs=inputs,
    )
    config = stage.config()
    if config is not None:
        parts['config'] = provenance.config_hash(settings_of(stage))
        parts['weights'] = {
            name: provenance.file_hash(os.environ[name])
            for name in stage.run.recipe.environment
            if name in os.environ and osp.isfile(os.environ[name])
        }
    if stage.spec.kind == 'data':
        parts['data'] = fingerprints(stage.run)
    return parts


def settings_of(stage: Stage) -> dict:
    """Flat settings of the stage's own model that decide on its result."""
    config, options = stage.config()
    return provenance.config_settings(stage.run.load(config, without_paths(options)))


def without_paths(options) -> dict:
    """Overrides less those that point into the run's own folder: what is there is in the inputs' keys."""
    return {key: value for key, value in options.items() if not key.endswith(('load_from', 'pseudo_label_dir'))}


def fingerprints(run: Run) -> dict:
    """Fingerprint of each split: pictures and labels, and masks where they are scored or trained on."""
    data, recipe = run.data, run.recipe
    pictures = (osp.relpath(data.pictures, data.root), data.suffix)
    masks = (osp.relpath(data.masks, data.root), '.png')
    truth = any(spec.options.get('labels') == TRUTH for spec in recipe.stages)
    exported = [spec.options['split'] for spec in recipe.stages if spec.kind == 'export']
    result = {}
    for split in dict.fromkeys([*data.splits, *exported]):
        wanted = split in recipe.splits or (split == recipe.train_split and truth)
        if osp.isfile(data.list_of(split)):
            folders = (pictures, masks) if wanted else (pictures,)
            result[split] = fingerprint.data_fingerprint(
                data.root, data.list_of(split), folders, data.label_file(split)
            )
    return result


def content_of(path) -> dict:
    """What a file or a folder of label maps holds, so that a later call sees when it was changed.

    Files count by size and time, the entries of a folder by name and size; temporary files do not count.
    """
    if osp.isfile(path):
        status = os.stat(path)
        return dict(bytes=status.st_size, changed=status.st_mtime_ns)
    with os.scandir(path) as entries:
        files = sorted(
            (entry.name, entry.stat().st_size)
            for entry in entries
            if entry.is_file() and not entry.name.startswith('.')
        )
    return dict(files=len(files), hash=hashlib.sha256(repr(files).encode()).hexdigest())


def identity(card: dict) -> str:
    """What stages that stand on this one remember of it: they run again when it was made again."""
    return f'{card["key"]} {card["time"]["started"]}'


def keys_of(inputs: dict) -> dict:
    """The keys in :func:`identity` of several stages: the same in every run with the same settings, data and code."""
    return {name: value.split(' ')[0] for name, value in inputs.items()}


def key_of(parts: dict) -> str:
    """Hash of what a stage stands on, the same in every run with the same settings, data and code."""
    return provenance.config_hash({**parts, 'inputs': keys_of(parts['inputs'])})


def reason_to_run(stage: Stage, card: dict | None, parts: dict) -> str | None:
    """Why a stage must run; None if its card and its outputs are those of the same key."""
    if card is None or card.get('status') != 'done':
        return 'it has not run here yet' if not osp.isdir(stage.folder) else 'it was not finished'
    for name in stage.outputs():
        if not osp.exists(stage.path(name)):
            return f'its output {name} is gone'
        if content_of(stage.path(name)) != (card.get('outputs') or {}).get(name):
            return f'its output {name} was changed'
    old = card.get('key_parts') or {}
    if card['key'] == key_of(parts) and old.get('inputs') == parts['inputs']:
        return None
    changed = [name for name in parts if parts[name] != old.get(name)]
    if 'inputs' in changed:
        before = old.get('inputs') or {}
        stages = [name for name in parts['inputs'] if parts['inputs'][name] != before.get(name)]
        changed[changed.index('inputs')] = f'inputs ({", ".join(stages)})'
    words = {'code': 'code of the project', 'settings': 'settings of the pipeline'}
    return f'changed since: {", ".join(words.get(name, name) for name in changed)}'


def run_stage(stage: Stage, parts: dict, console, fresh: bool = False) -> dict:
    """Run a stage and write its card.

    Args:
        stage (Stage): The stage.
        parts (dict): From :func:`key_parts`.
        console (rich.console.Console): Where to print.
        fresh (bool): Whether nothing of an earlier call is kept.

    Returns:
        dict: The card.

    Raises:
        UserError: With the line of the log that says why it failed.
    """
    run, folder, key = stage.run, stage.folder, key_of(parts)
    old = clear_folder(stage, provenance.config_hash(parts), fresh)
    started, begin, peak = datetime.now(timezone.utc), time.monotonic(), 0.0
    stage.prepare()
    commands = stage.commands()
    for index, command in enumerate(commands, start=1):
        peak = max(peak, call(command, run, folder, index, len(commands), console))
    seconds = time.monotonic() - begin
    found = stage.finish()
    card = dict(
        stage=stage.spec.name,
        kind=stage.spec.kind,
        run=run.recipe.name,
        number=stage.spec.number,
        status='done',
        command=[shlex.join(['python', *command]) for command in commands],
        key=key,
        key_parts=parts,
        config=_config_of(stage),
        seed=run.recipe.seed,
        versions=provenance.versions(),
        git=provenance.git_revision(run.root),
        host=provenance.host(),
        dataset=run.recipe.dataset,
        data=parts.get('data') or _data_of(run),
        inputs=keys_of(parts['inputs']),
        outputs={name: content_of(stage.path(name)) for name in stage.outputs()},
        time=dict(
            started=started.isoformat(), seconds=round(seconds, 1), images_per_second=found.get('images_per_second')
        ),
        memory=dict(peak_mib=round(peak, 1), peak_gpu_mib=_gpu_peak(folder)),
        scores=found.get('scores', {}),
        context=found.get('context', {}),
    )
    cards.write_card(folder, card)
    shutil.rmtree(old, ignore_errors=True)
    console.print(f'     done in {_minutes(seconds)}{_headline(card)}', highlight=False, soft_wrap=True)
    if card['context'].get('random_weights'):
        names = ', '.join(card['context']['random_weights'])
        console.print(
            f'     [yellow]{names} started random: no pretrained weights were found.[/yellow]', soft_wrap=True
        )
    return card


def clear_folder(stage: Stage, key: str, fresh: bool) -> str:
    """Make the stage's folder ready: never mix the files of two settings, nor of an interrupted training.

    A finished stage is set aside until the new one is finished; what was interrupted goes on where that is exact.

    Returns:
        str: Where a finished stage was set aside.
    """
    folder, old, claim = stage.folder, f'{stage.folder}.old', osp.join(stage.folder, 'key')
    finished = osp.exists(osp.join(folder, cards.CARD))
    if finished:
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    elif osp.isdir(folder) and (fresh or _read(claim) != key or not may_go_on(stage)):
        shutil.rmtree(folder)
    os.makedirs(folder, exist_ok=True)
    with atomic_write(claim) as temporary, open(temporary, 'w') as file:
        file.write(key)
    return old


def may_go_on(stage: Stage) -> bool:
    """Whether files of an interrupted call of the same stage are kept: label maps always, trainings if so asked."""
    return stage.run.recipe.resume or stage.spec.kind not in ('train', 'verify')


def call(command, run, folder, index, total, console) -> float:
    """Run one command with its output in a log file.

    Returns:
        float: Peak memory in MiB of its largest process.

    Raises:
        UserError: If it fails.
    """
    tool = next((osp.splitext(osp.basename(part))[0] for part in command if part.startswith('tools/')), 'command')
    log = osp.join(folder, 'logs', f'{index:02d}_{tool}.log')
    arguments = [osp.join(run.root, part) if part.startswith('tools/') else part for part in command]
    arguments = [run.config_path(part) if part.startswith('mmcfg/') else part for part in arguments]
    path = os.pathsep.join(filter(None, [run.root, os.environ.get('PYTHONPATH')]))
    begin = time.monotonic()
    child = start_logged([sys.executable, *arguments], log, {'PYTHONPATH': path})
    try:
        status, usage = _wait(child, f'{index}/{total} {tool}', log, console)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    seconds = time.monotonic() - begin
    if status != 0:
        why = failure_reason(log, status)
        raise UserError(f'stage {osp.basename(folder)} failed at {tool}: {why}; its log is {log}')
    console.print(f'     {index}/{total} {tool}: {_minutes(seconds)}', highlight=False, style='dim')
    return usage.ru_maxrss / (1024 if sys.platform == 'linux' else 1024**2)


def _wait(child, what, log, console):
    """Wait for a child; on a terminal, show the last line of its log meanwhile."""
    with console.status(what) as status:
        while True:
            pid, code, usage = os.wait4(child.pid, 0 if not console.is_terminal else os.WNOHANG)
            if pid:
                child.returncode = os.waitstatus_to_exitcode(code)
                return child.returncode, usage
            lines = log_tail(log)
            status.update(f'{what}  {lines[-1][-100:] if lines else ""}')
            time.sleep(1)


@contextlib.contextmanager
def only_one(folder):
    """Keep a second process out of a run's folder; the lock ends with the process, however that ends.

    Raises:
        UserError: If another one is at work there.
    """
    with open(osp.join(folder, '.lock'), 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f'another process is at work in `{folder}`; wait for it, or give --work-dir') from error
        yield


def _read(path):
    if not osp.isfile(path):
        return None
    with open(path) as file:
        return file.read()


def _config_of(stage):
    config = stage.config()
    if config is None:
        return None
    settings = settings_of(stage)
    return dict(file=config[0], hash=provenance.config_hash(settings), settings=settings)


def _data_of(run):
    for spec in run.recipe.stages:
        card = cards.read_card(run.folder_of(spec.name)) if spec.kind == 'data' else None
        if card:
            return card['data']
    return {}


def _gpu_peak(folder):
    """Highest GPU memory in MiB that a training of the stage logged, or None."""
    peak = None
    for base, _, names in os.walk(folder):
        for name in names:
            if name == 'scalars.json':
                with open(osp.join(base, name)) as file:
                    for line in file:
                        value = json.loads(line).get('memory')
                        peak = max(peak or 0, value) if value else peak
    return peak


def _minutes(seconds) -> str:
    return f'{seconds:.0f} s' if seconds < 90 else f'{seconds / 60:.1f} min'


def _headline(card) -> str:
    """The main scores of a card, in a few words."""
    parts = []
    for split, scores in card['scores'].items():
        shown = [
            f'{name} {value:.1f}'
            for name, value in scores.items()
            if isinstance(value, float) and ('mIoU' in name or name == 'miou')
        ]
        if shown:
            parts.append(f'{split} {", ".join(shown)}')
    return f': {"; ".join(parts)}' if parts else ''
