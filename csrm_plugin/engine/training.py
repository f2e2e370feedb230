"""Turn what `tools/train.py` was asked for into settings of the Runner."""

import contextlib
import glob
import logging
import os
import os.path as osp
import re
import zipfile
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from csrm_plugin.config.load import load_config
from csrm_plugin.engine.launch import prepare_distributed, set_global_batch
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.cli import describe_error


def prepare_training(
    config: str,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    launcher: str = 'none',
) -> Config:
    """Read a config and apply everything that a training command can ask for.

    Args:
        config (str): Config file.
        cfg_options (dict, optional): Overrides, see :func:`csrm_plugin.config.load.load_config`.
        work_dir (str, optional): Defaults to the config's, then to ``./work_dirs/<config name>``.
        resume (str, optional): ``'auto'`` or a checkpoint, see :func:`set_resume`.
        amp (bool): Automatic mixed precision.
        auto_scale_lr (bool): Scale the learning rate with the global batch.
        launcher (str): See :func:`csrm_plugin.engine.launch.prepare_distributed`.

    Returns:
        mmengine.config.Config: Ready for ``Runner.from_cfg``.

    Raises:
        UserError: For everything that the user can mend, before anything is built.
    """
    cfg = load_config(config, cfg_options)
    set_work_dir(cfg, config, work_dir)
    set_trial_dir(cfg)
    if amp:
        enable_amp(cfg)
    world_size = prepare_distributed(cfg, launcher)
    set_global_batch(cfg, world_size, cfg_options)
    if auto_scale_lr:
        enable_auto_scale_lr(cfg)
    set_resume(cfg, resume)
    check_load_from(cfg)
    return cfg


def run_training(cfg: Config, runner_class: type[Runner] = Runner, hooks: Sequence[Hook] = ()) -> Runner:
    """Train, and tell the hooks that have ``after_failure`` (the record of the run) if it fails.

    Args:
        cfg (mmengine.config.Config): From :func:`prepare_training`.
        runner_class (type): The Runner or a subclass.
        hooks (Sequence[Hook]): Registered with the lowest priority.

    Returns:
        Runner: After the training.
    """
    runner = runner_class.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook, priority='LOWEST')
    try:
        runner.train()
    except BaseException as error:
        reason = describe_error(error) or ' '.join(f'{type(error).__name__}: {error}'.split())
        for hook in runner.hooks:
            if hasattr(hook, 'after_failure'):
                with contextlib.suppress(OSError):  # a full disk, say: the error itself is what counts
                    hook.after_failure(runner, reason)
        raise
    return runner


def set_trial_dir(cfg: Config) -> None:
    """Give each trial of a W&B sweep a work directory of its own, below the one that the command names.

    The agent starts every trial with the same command; the environment says which one it is.
    """
    sweep, run = os.environ.get('WANDB_SWEEP_ID'), os.environ.get('WANDB_RUN_ID')
    if sweep and run:
        cfg.work_dir = osp.join(cfg.work_dir, f'sweep_{sweep}', run)


def set_work_dir(cfg: Config, config: str, work_dir: str | None = None) -> None:
    """Command line before config before ``./work_dirs/<config name>``."""
    name = osp.splitext(osp.basename(config))[0]
    cfg.work_dir = work_dir or cfg.get('work_dir') or osp.join('.', 'work_dirs', name)


def set_resume(cfg: Config, resume: str | None = None) -> None:
    """Decide what the run starts from: ``cfg.resume`` and ``cfg.load_from``.

    With ``'auto'`` (or ``resume=True`` in the config) the newest checkpoint of the work directory comes first, and
    ``load_from`` only where there is none. MMEngine itself would resume from ``load_from``.

    Args:
        cfg (mmengine.config.Config): Changed in place; ``work_dir`` must be set.
        resume (str, optional): ``'auto'``, a checkpoint file, or a work directory that has one.

    Raises:
        MissingFileError: If the given checkpoint is not there.
    """
    if resume is None and cfg.get('resume'):
        resume = 'auto'
    if resume is None:
        cfg.resume = False
        return
    if resume == 'auto':
        found = find_latest_checkpoint(cfg.work_dir)
        if found is None:
            start = f'load_from {cfg.load_from}' if cfg.get('load_from') else 'scratch'
            print_log(f'Nothing to resume in {cfg.work_dir}; starting from {start}.', logger='current')
            cfg.resume = False
            return
        print_log(f'Resuming from {found}.', logger='current')
    else:
        found = find_latest_checkpoint(resume) if osp.isdir(resume) else resume
        if found is None or not osp.isfile(found):
            raise MissingFileError(f'--resume: there is no checkpoint at `{resume}`')
    cfg.resume, cfg.load_from = True, found


def find_latest_checkpoint(folder: str) -> str | None:
    """The newest training checkpoint in a work directory, or None.

    It is the one that ``last_checkpoint`` names (also after the folder was moved); without that file, the
    ``epoch_*.pth`` or ``iter_*.pth`` with the highest number. Files that a kill left half-written are passed over.
    """
    candidates = []
    note = osp.join(folder, 'last_checkpoint')
    if osp.isfile(note):
        with open(note) as file:
            named = file.read().strip()
        candidates += [osp.join(folder, osp.basename(named)), named]
    numbered = {}
    for path in glob.glob(osp.join(glob.escape(folder), '*.pth')):
        match = re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', osp.basename(path))
        if match:
            numbered[int(match.group(1))] = path
    candidates += [numbered[number] for number in sorted(numbered, reverse=True)]
    for path in dict.fromkeys(candidates):
        if osp.isfile(path):
            # The end of a checkpoint is written last: without it, the run was killed while saving.
            if zipfile.is_zipfile(path):
                return path
            print_log(f'{path} is not whole; looking for an older checkpoint.', logger='current', level=logging.WARNING)
    return None


def check_load_from(cfg: Config) -> None:
    """Raise ``MissingFileError`` if ``cfg.load_from`` is a path where nothing is; '' means None."""
    path = cfg.get('load_from') or None
    cfg.load_from = path
    if path is not None and '://' not in path and not osp.isfile(path):
        raise MissingFileError(
            f'load_from: there is no checkpoint at `{path}`; train it first, or set load_from=None to start without'
        )


def enable_amp(cfg: Config) -> None:
    """Use automatic mixed precision: float16 with dynamic loss scale on CUDA, bfloat16 on CPUs."""
    wrapper = cfg.optim_wrapper
    own = wrapper.get('type', 'OptimWrapper')
    if own in ('AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        print_log('--amp: the config asks for it already.', logger='current', level=logging.WARNING)
    elif own != 'OptimWrapper':
        raise UserError(f'--amp works with optim_wrapper.type OptimWrapper, but the config has {own}')
    elif torch.cuda.is_available():
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    else:
        wrapper.type = 'CPUAmpOptimWrapper'


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the real global batch over ``auto_scale_lr.base_batch_size``.

    MMEngine counts one step of every process as the real batch. With accumulation an update sees several, so the
    base is divided by their number instead.

    Raises:
        UserError: If the config does not say which batch its learning rate belongs to.
    """
    base = cfg.get('auto_scale_lr', {}).get('base_batch_size') or cfg.get('global_batch_size')
    if not base:
        raise UserError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=base / steps)
