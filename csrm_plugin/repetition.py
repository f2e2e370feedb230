"""One config with several seeds: mean and standard deviation of its scores."""

import os
import os.path as osp
import shutil
import statistics
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from rich.table import Table

from .cli import OptionsAction
from .engine.config import load_config
from .engine.training import find_latest_checkpoint
from .pipeline import cards
from .processes import available_cores, failure_reason, start_logged
from .tracking import record
from .utils import UserError, atomic_write, write_json

#: What a seed's folder was made from, and its scores.
SEED_FILE = 'seed.json'


def repeat(config, seeds, root, console, cfg_options=(), work_dir=None, splits=(), jobs=1, processes=1) -> dict:
    """Train and test a config once per seed, and summarise.

    Each seed has its own folder ``seed_<S>``. A second call skips the seeds that are finished with the same settings
    and code; a seed that was interrupted starts anew.

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
        UserError: If arguments make no sense, or a seed failed.
    """
    seeds = _checked_seeds(seeds)
    if jobs < 1 or processes < 1:
        raise UserError('--jobs and --processes must be at least 1')
    options = _parsed(cfg_options)
    settings = cards.config_settings(load_config(config, options))
    name = osp.splitext(osp.basename(config))[0]
    work_dir = work_dir or osp.join('work_dirs', f'repeat_{name}')
    splits = list(splits) or [_test_split(settings)]
    key = dict(settings=cards.config_hash(settings), code=cards.code_hash(), splits=splits, processes=processes)
    plan = _Plan(config, list(cfg_options), root, work_dir, splits, processes, key, max(available_cores() // jobs, 1))
    todo = [seed for seed in seeds if not plan.is_done(seed, console)]
    # The thread that starts a training must live as long as it does, see `die_with_parent`.
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(plan.run, seed, console, jobs > 1) for seed in todo]
        _, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
    for future in futures:
        if not future.cancelled():
            future.result()
    summary = summarise({seed: record.read_json(plan.path(seed, SEED_FILE))['scores'] for seed in seeds})
    result = dict(format=1, config=config, cfg_options=list(cfg_options), seeds=seeds, key=key, splits=summary)
    result['context'] = {split: _context(plan, seeds[0], split) for split in splits}
    write_json(osp.join(work_dir, 'repeat.json'), result)
    with atomic_write(osp.join(work_dir, 'repeat.md')) as temporary, open(temporary, 'w') as file:
        file.write(markdown(result))
    console.print(table_of(result))
    console.print(_footnote(result), highlight=False, soft_wrap=True)
    console.print(f'Written: {osp.join(work_dir, "repeat.json")}, repeat.md', highlight=False, soft_wrap=True)
    return result


def summarise(scores) -> dict:
    """Mean and standard deviation over seeds.

    Args:
        scores (dict[int, dict[str, dict[str, float]]]): For each seed and split the metrics.

    Returns:
        dict[str, dict[str, dict]]: For each split and metric that all seeds have: ``mean``, ``std`` (with n - 1 in
        the denominator; None for one seed) and ``values`` in the order of the seeds.
    """
    runs, result = list(scores.values()), {}
    for split in runs[0]:
        names = [name for name in runs[0][split] if all(run[split].get(name) is not None for run in runs)]
        result[split] = {}
        for name in names:
            values = [run[split][name] for run in runs]
            std = statistics.stdev(values) if len(values) > 1 else None
            result[split][name] = dict(mean=statistics.fmean(values), std=std, values=values)
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
    """The summary as a Markdown table with what it stands on below."""
    head = ['metric', 'split', 'mean ± std', *(f'seed {seed}' for seed in result['seeds'])]
    lines = [head, ['---'] * len(head), *_rows(result)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + f'\n\n{_footnote(result)}\n'


def _rows(result):
    for split, metrics in result['splits'].items():
        for name in (name for name in record.SCORES if name in metrics):
            entry = metrics[name]
            spread = '' if entry['std'] is None else f' ± {entry["std"]:.2f}'
            yield [name, split, f'{entry["mean"]:.2f}{spread}', *(f'{value:.2f}' for value in entry['values'])]


def _footnote(result) -> str:
    """What the numbers stand on."""
    context = next(iter(result['context'].values()))
    scales = ' '.join(f'{scale:g}' for scale in context.get('scales', ()))
    parts = [f'± is the standard deviation over the seeds {", ".join(map(str, result["seeds"]))}, with n - 1']
    if context.get('scales'):
        flip, crf = ('' if context.get(name) else 'no ' for name in ('flip', 'crf'))
        parts.append(f'scales {scales}, {flip}flip, {crf}CRF')
    if context.get('weights'):
        parts.append(f"the {context['weights']}'s weights")
    parts.append('the last checkpoint of each')
    if context.get('cam_threshold_chosen_with_masks'):
        parts.append('cam/mIoU at the best threshold of each, chosen with the masks')
    return '; '.join(parts) + '.'


class _Plan:
    """What is done for each seed."""

    def __init__(self, config, cfg_options, root, work_dir, splits, processes, key, cores):
        self.config, self.cfg_options, self.root, self.work_dir = config, cfg_options, root, work_dir
        self.splits, self.processes, self.key, self.cores = splits, processes, key, cores

    def path(self, seed, *names):
        return osp.join(self.work_dir, f'seed_{seed}', *names)

    def is_done(self, seed, console) -> bool:
        """Whether the seed's scores are there; refuses those of other settings."""
        if not osp.isfile(self.path(seed, SEED_FILE)):
            return False
        old = record.read_json(self.path(seed, SEED_FILE)).get('key', {})
        if old.get('settings') != self.key['settings']:
            raise UserError(
                f'`{self.path(seed)}` holds a run with other settings; give another --work-dir, or remove that folder'
            )
        changed = [name for name, value in self.key.items() if old.get(name) != value]
        why = 'skipped, it is finished' if not changed else f'runs again, changed since: {", ".join(changed)}'
        console.print(f'seed {seed}: {why}', highlight=False)
        return not changed

    def run(self, seed, console, shared_machine):
        """Train and test one seed."""
        shutil.rmtree(self.path(seed), ignore_errors=True)
        console.print(f'seed {seed}: trains; log: {self.path(seed, "train.log")}', highlight=False, soft_wrap=True)
        options = [*self.cfg_options, f'randomness.seed={seed}']
        launcher = []
        if self.processes > 1:
            launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(self.processes)]
        env = {'PYTHONPATH': os.pathsep.join(filter(None, [self.root, os.environ.get('PYTHONPATH')]))}
        env['WANDB_RUN_GROUP'] = os.environ.get('WANDB_RUN_GROUP') or osp.basename(osp.normpath(self.work_dir))
        if shared_machine and 'OMP_NUM_THREADS' not in os.environ:
            env['OMP_NUM_THREADS'] = str(self.cores)
        tail = ['--work-dir', self.path(seed), *(['--launcher', 'pytorch'] if launcher else [])]
        self._call(seed, 'train', [*launcher, self._tool('train'), self.config, *tail, '--cfg-options', *options], env)
        checkpoint = find_latest_checkpoint(self.path(seed))
        scores = {}
        for split in self.splits:
            target = self.path(seed, f'test_{split}.json')
            list_file = f'test_dataloader.dataset.ann_file=ImageSets/Segmentation/{split}.txt'
            self._call(seed, f'test_{split}', [
                self._tool('test'), self.config, checkpoint, '--work-dir', self.path(seed, 'test'), '--json', target,
                '--cfg-options', *options, list_file], env)  # fmt: skip
            report = record.read_json(target)
            scores[split] = {name: value for name, value in report.items() if isinstance(value, (int, float))}
        write_json(self.path(seed, SEED_FILE), dict(seed=seed, key=self.key, scores=scores))
        console.print(f'seed {seed}: {_headline(scores)}', highlight=False)

    def _tool(self, name):
        return osp.join(self.root, 'tools', f'{name}.py')

    def _call(self, seed, what, arguments, env):
        log = self.path(seed, f'{what}.log')
        child = start_logged([sys.executable, *arguments], log, env)
        try:
            status = child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        if status:
            raise UserError(f'seed {seed} failed at {what}: {failure_reason(log, status)}; its log is {log}')


def _headline(scores) -> str:
    shown = [f'{split} {name} {metrics[name]:.1f}' for split, metrics in scores.items() for name in record.SCORES
             if name in metrics]  # fmt: skip
    return ', '.join(shown)


def _context(plan, seed, split) -> dict:
    return record.read_json(plan.path(seed, f'test_{split}.json')).get('context', {})


def _test_split(settings) -> str:
    """The split that the config tests on."""
    ann_file = settings.get('test_dataloader.dataset.ann_file')
    if not ann_file:
        raise UserError('the config names no test_dataloader.dataset.ann_file; give --splits')
    return osp.splitext(osp.basename(ann_file))[0]


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
