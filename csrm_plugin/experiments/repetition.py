"""One config with several seeds: mean and standard deviation of its scores."""

import os
import os.path as osp
import shutil
import statistics
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

from rich.table import Table

from csrm_plugin.config import provenance
from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.config.load import load_config
from csrm_plugin.engine.training import check_load_from, find_latest_checkpoint
from csrm_plugin.experiments.pipeline.runner import content_of, only_one
from csrm_plugin.experiments.pipeline.stages import MODEL_CODE
from csrm_plugin.tracking import record
from csrm_plugin.utils import UserError, atomic_write, write_json
from csrm_plugin.utils.label_sources import describe_source
from csrm_plugin.utils.processes import available_cores, failure_reason, start_logged

#: What a seed's folder was made from, and its scores. It is there from the start, as the mark of a folder of ours.
SEED_FILE = 'seed.json'

#: Parts of the project that decide on a training.
CODE = MODEL_CODE


def repeat(config, seeds, root, console, cfg_options=(), work_dir=None, splits=(), jobs=1, processes=1) -> dict:
    """Train and test a config once per seed, and summarise.

    Each seed has its own folder ``seed_<S>``. A second call skips the trainings that are finished with the same
    settings, code, data and starting checkpoint, and scores only splits that have no score yet. A seed that was
    interrupted starts anew.

    Args:
        config (str): Config file.
        seeds (Sequence[int]): Different seeds, at least 0.
        root (str): Folder of the project, with ``tools``.
        console (rich.console.Console): Where progress and the table are printed.
        cfg_options (Sequence[str]): ``key=value`` as on the command line, the same for all seeds.
        work_dir (str, optional): Defaults to ``./work_dirs/repeat_<config name>``.
        splits (Sequence[str]): Splits to score; the config's test split by default.
        jobs (int): Seeds trained at a time.
        processes (int): Processes of each training, by torchrun.

    Returns:
        dict: What ``repeat.json`` holds: ``seeds``, and for each split and metric ``mean``, ``std`` (n - 1; None for
        one seed), ``values``.

    Raises:
        UserError: If arguments make no sense, or a seed failed. No further seed is started then.
    """
    seeds = _checked_seeds(seeds)
    if jobs < 1 or processes < 1:
        raise UserError('--jobs and --processes must be at least 1')
    cfg = load_config(config, _parsed(cfg_options))
    check_load_from(cfg)
    name = osp.splitext(osp.basename(config))[0]
    work_dir = work_dir or osp.join('work_dirs', f'repeat_{name}')
    lists = _split_lists(cfg, splits)
    os.makedirs(work_dir, exist_ok=True)
    with only_one(work_dir):
        plan = _Plan(config, list(cfg_options), root, work_dir, lists, processes, key_of(cfg, processes), jobs)
        _run_all(plan, seeds, console)
        entries = {seed: record.read_json(plan.path(seed, SEED_FILE)) for seed in seeds}
    result = dict(format=1, config=config, cfg_options=list(cfg_options), seeds=seeds, key=plan.key)
    result['splits'] = summarise(
        {seed: {split: entry['scores'][split] for split in lists} for seed, entry in entries.items()}
    )
    result['context'] = {split: entries[seeds[0]]['context'][split] for split in lists}
    write_json(osp.join(work_dir, 'repeat.json'), result)
    with atomic_write(osp.join(work_dir, 'repeat.md')) as temporary, open(temporary, 'w') as file:
        file.write(markdown(result))
    console.print(table_of(result))
    console.print(footnote(result), highlight=False, soft_wrap=True)
    console.print(f'Written: {osp.join(work_dir, "repeat.json")}, repeat.md', highlight=False, soft_wrap=True)
    return result


def key_of(cfg, processes: int) -> dict:
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
    return dict(
        settings=provenance.config_hash(provenance.config_settings(cfg)),
        code=provenance.code_hash(CODE),
        sources=sources,
        processes=processes,
    )


def _run_all(plan, seeds, console) -> None:
    """Train and score what is missing; the first failure, or Ctrl-C, starts nothing further."""
    todo = [seed for seed in seeds if not plan.is_done(seed, console)]
    with ThreadPoolExecutor(plan.jobs) as pool:
        # The thread that starts a training must live as long as it does, see `die_with_parent`.
        futures = [pool.submit(plan.run, seed, console) for seed in todo]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            plan.stop(futures)
            raise


def summarise(scores) -> dict:
    """Mean and standard deviation over seeds.

    Args:
        scores (dict[int, dict[str, dict[str, float]]]): For each seed and split the metrics.

    Returns:
        dict[str, dict[str, dict]]: For each split and metric: ``mean``, ``std`` (with n - 1 in the denominator; None
        for one seed) and ``values`` in the order of the seeds. Where a seed lacks the metric its value is None, and
        so are mean and standard deviation.
    """
    runs, result = list(scores.values()), {}
    for split in runs[0]:
        result[split] = {}
        for name in dict.fromkeys(name for run in runs for name in run[split]):
            values = [run[split].get(name) for run in runs]
            whole = None not in values
            result[split][name] = dict(
                mean=statistics.fmean(values) if whole else None,
                std=statistics.stdev(values) if whole and len(values) > 1 else None,
                values=values,
            )
    return result


def table_of(result) -> Table:
    """The summary as a table for the terminal."""
    table = Table(title=f'{result["config"]}, {len(result["seeds"])} seeds, percent')
    for name, justify in (('metric', 'left'), ('split', 'left'), ('mean ± std', 'right')):
        table.add_column(name, justify=justify)
    for seed in result['seeds']:
        table.add_column(f'seed {seed}', justify='right')
    for row in _rows(result):
        table.add_row(*row)
    return table


def markdown(result) -> str:
    """The summary as a Markdown table with what it stands on."""
    head = ['metric', 'split', 'mean ± std', *(f'seed {seed}' for seed in result['seeds'])]
    lines = [f'| {" | ".join(line)} |' for line in [head, ['---'] * len(head), *_rows(result)]]
    options = f' with {" ".join(f"`{item}`" for item in result["cfg_options"])}' if result['cfg_options'] else ''
    return '\n'.join([f'`{result["config"]}`{options}, percent', '', *lines, '', footnote(result), ''])


def _rows(result):
    for split, metrics in result['splits'].items():
        for name in (name for name in record.SCORES if name in metrics):
            entry = metrics[name]
            spread = '' if entry['std'] is None else f' ± {entry["std"]:.2f}'
            mean = '-' if entry['mean'] is None else f'{entry["mean"]:.2f}{spread}'
            yield [name, split, mean, *('-' if value is None else f'{value:.2f}' for value in entry['values'])]


def footnote(result) -> str:
    """What the numbers stand on."""
    parts = []
    if len(result['seeds']) > 1:
        seeds = ', '.join(map(str, result['seeds']))
        parts.append(f'± is the standard deviation over the seeds {seeds}, with n - 1 in the denominator')
    parts.append('the last checkpoint of each')
    parts += [f'{split}: {_stands_on(context)}' for split, context in result['context'].items()]
    return '; '.join(parts) + '.'


def _stands_on(context) -> str:
    """What the scores of one split stand on."""
    parts = [f'{context["pictures"]} pictures'] if context.get('pictures') else []
    if context.get('scales'):
        flip, crf = ('' if context.get(name) else 'no ' for name in ('flip', 'crf'))
        scales = ' '.join(f'{scale:g}' for scale in context['scales'])
        parts.append(f'scale{"s" if len(context["scales"]) > 1 else ""} {scales}, {flip}flip, {crf}CRF')
    if context.get('weights'):
        parts.append(f"the {context['weights']}'s weights")
    pseudo = context.get('pseudo_label') or {}
    if pseudo.get('source'):
        how = describe_source(pseudo['source'], pseudo.get('threshold'))
        parts.append(f'pseudo labels from the {how}, restricted to the image-level labels')
    if context.get('cam_threshold_chosen_with_masks'):
        parts.append('cam/mIoU at the best threshold of each seed, chosen with the masks')
    return ', '.join(parts)


class _Plan:
    """What is done for each seed."""

    def __init__(self, config, cfg_options, root, work_dir, lists, processes, key, jobs):
        self.config, self.cfg_options, self.root, self.work_dir = config, cfg_options, root, work_dir
        self.lists, self.processes, self.key, self.jobs = lists, processes, key, jobs
        self._children, self._lock, self._stopped = set(), threading.Lock(), False

    def path(self, seed, *names):
        return osp.join(self.work_dir, f'seed_{seed}', *names)

    def is_done(self, seed, console) -> bool:
        """Whether all scores of a seed are there; refuses a folder that is not ours or of other settings."""
        entry = self._entry(seed)
        if entry is None:
            return False
        if entry['key'].get('settings') != self.key['settings']:
            raise UserError(
                f'`{self.path(seed)}` holds a run with other settings; give another --work-dir, or remove that folder'
            )
        changed = [name for name, value in self.key.items() if entry['key'].get(name) != value]
        if changed or not entry['trained']:
            why = f'changed since: {", ".join(changed)}' if changed else 'it was not finished'
            console.print(f'seed {seed}: trains anew, {why}', highlight=False)
            return False
        missing = [split for split in self.lists if split not in entry['scores']]
        if not missing:
            console.print(f'seed {seed}: skipped, it is finished', highlight=False)
        return not missing

    def run(self, seed, console):
        """Train a seed, unless it is trained, and test it."""
        env = self._environment()
        entry = self._entry(seed)
        if entry is None or entry['key'] != self.key or not entry['trained']:
            entry = self._train(seed, console, env)
        for split, ann_file in self.lists.items():
            if split not in entry['scores']:
                report = self._test(seed, split, ann_file, env)
                metrics = {name: value for name, value in report.items() if isinstance(value, (int, float))}
                entry['scores'][split], entry['context'][split] = metrics, report.get('context', {})
                write_json(self.path(seed, SEED_FILE), entry)
        console.print(f'seed {seed}: {_headline(entry["scores"])}', highlight=False, soft_wrap=True)

    def stop(self, futures):
        """Start nothing further, and end what runs."""
        for future in futures:
            future.cancel()
        with self._lock:
            self._stopped = True
            for child in self._children:
                child.terminate()

    def _entry(self, seed) -> dict | None:
        """What ``seed.json`` holds; None where the folder is empty or not there."""
        folder, path = self.path(seed), self.path(seed, SEED_FILE)
        if osp.isfile(path):
            entry = record.read_json(path)
            if not all(isinstance(entry.get(name), dict) for name in ('key', 'scores', 'context')):
                raise UserError(f'`{path}` is not of tools/repeat.py; give another --work-dir, or remove that folder')
            return {'trained': False, **entry}
        if osp.isdir(folder) and os.listdir(folder):
            raise UserError(f'`{folder}` was not made by tools/repeat.py; give another --work-dir')
        return None

    def _train(self, seed, console, env) -> dict:
        """Train a seed; what was there is set aside until the new training is finished."""
        folder, old = self.path(seed), f'{self.path(seed)}.old'
        entry = self._entry(seed)
        if entry is not None and entry['trained']:
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        elif osp.isdir(folder):
            shutil.rmtree(folder)
        entry = dict(seed=seed, key=self.key, trained=False, scores={}, context={})
        write_json(self.path(seed, SEED_FILE), entry)
        console.print(f'seed {seed}: trains; log: {self.path(seed, "train.log")}', highlight=False, soft_wrap=True)
        launcher = []
        if self.processes > 1:
            launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(self.processes)]
        tail = ['--work-dir', folder, *(['--launcher', 'pytorch'] if launcher else [])]
        options = ['--cfg-options', *self.cfg_options, f'randomness.seed={seed}']
        self._call(seed, 'train', [*launcher, self._tool('train'), self.config, *tail, *options], env)
        if find_latest_checkpoint(folder) is None:
            raise UserError(f'seed {seed} left no checkpoint in `{folder}`; its log is {self.path(seed, "train.log")}')
        entry['trained'] = True
        write_json(self.path(seed, SEED_FILE), entry)
        shutil.rmtree(old, ignore_errors=True)
        return entry

    def _test(self, seed, split, ann_file, env) -> dict:
        """Score a seed on a split; gives what tools/test.py writes."""
        target, checkpoint = self.path(seed, f'test_{split}.json'), find_latest_checkpoint(self.path(seed))
        options = [*self.cfg_options, f'randomness.seed={seed}', f'test_dataloader.dataset.ann_file={ann_file}']
        self._call(
            seed,
            f'test_{split}',
            [
                self._tool('test'),
                self.config,
                checkpoint,
                '--work-dir',
                self.path(seed, 'test'),
                '--json',
                target,
                '--cfg-options',
                *options,
            ],
            env,
        )
        return record.read_json(target)

    def _environment(self) -> dict:
        env = {'PYTHONPATH': os.pathsep.join(filter(None, [self.root, os.environ.get('PYTHONPATH')]))}
        env['WANDB_RUN_GROUP'] = os.environ.get('WANDB_RUN_GROUP') or osp.basename(osp.abspath(self.work_dir))
        if self.jobs > 1 and 'OMP_NUM_THREADS' not in os.environ:
            env['OMP_NUM_THREADS'] = str(max(available_cores() // self.jobs, 1))
        return env

    def _tool(self, name):
        return osp.join(self.root, 'tools', f'{name}.py')

    def _call(self, seed, what, arguments, env):
        log = self.path(seed, f'{what}.log')
        with self._lock:
            if self._stopped:
                raise UserError(f'seed {seed} was not begun')
            child = start_logged([sys.executable, *arguments], log, env)
            self._children.add(child)
        status = child.wait()
        with self._lock:
            self._children.discard(child)
        if status:
            raise UserError(f'seed {seed} failed at {what}: {failure_reason(log, status)}; its log is {log}')


def _headline(scores) -> str:
    shown = [
        f'{split} {name} {metrics[name]:.1f}'
        for split, metrics in scores.items()
        for name in record.SCORES
        if metrics.get(name) is not None
    ]
    return ', '.join(shown)


def _split_lists(cfg, splits) -> dict[str, str]:
    """Split to its list of ids: the config's own, with another name where another split is asked for."""
    ann_file = cfg.get('test_dataloader', {}).get('dataset', {}).get('ann_file')
    if not ann_file:
        raise UserError('the config names no test_dataloader.dataset.ann_file')
    folder, name = osp.split(ann_file)
    stem, ending = osp.splitext(name)
    return {split: osp.join(folder, split + ending) for split in splits or [stem]}


def _parsed(cfg_options) -> dict:
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


def _checked_seeds(seeds) -> list[int]:
    seeds = list(seeds)
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise UserError(f'--seeds must be different numbers of at least 0, but are {" ".join(map(str, seeds))}')
    return seeds
