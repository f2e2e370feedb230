"""What depends on the number of processes: how they find each other, and how they share the batch."""

import logging
import os

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.logging import print_log

from csrm_plugin.utils import UserError


def prepare_distributed(cfg: Config, launcher: str = 'none') -> int:
    """Set the launcher, and get a run on CPUs ready that MMEngine's own launcher cannot start.

    MMEngine calls ``torch.cuda.set_device`` on every rank and gives it to the model wrapper as its device. Without
    CUDA the gloo group is therefore started here, before the Runner is built (which then leaves it alone), and the
    wrapper is one that needs no device and makes SyncBN work, which torch has for GPUs only. On one process the Runner
    itself turns SyncBN into BN, and ``randomness.diff_rank_seed`` is taken back, see :func:`_forget_ranks`.

    Args:
        cfg (mmengine.config.Config): Changed in place.
        launcher (str): ``none``, ``pytorch`` (torchrun), ``slurm`` or ``mpi``.

    Returns:
        int: Number of processes.

    Raises:
        UserError: If launcher and environment do not agree, or only GPUs could do what is asked.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        if int(os.environ.get('WORLD_SIZE', 1)) > 1 and 'TORCHELASTIC_RUN_ID' in os.environ:
            raise UserError(
                f'torchrun started {os.environ["WORLD_SIZE"]} processes, but --launcher is none: each would train '
                'alone in the same work directory. Add `--launcher pytorch`.'
            )
        _forget_ranks(cfg)
        return 1
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError(
            '--launcher pytorch needs torchrun: `tools/dist_train.sh CONFIG PROCESSES` or `torchrun '
            '--nproc_per_node PROCESSES tools/train.py CONFIG --launcher pytorch`'
        )
    if not torch.cuda.is_available():
        _start_on_cpus(cfg, launcher)
    world_size = _world_size(launcher)
    if world_size == 1:
        _forget_ranks(cfg)
    return world_size


def _start_on_cpus(cfg: Config, launcher: str) -> None:
    """Start the gloo group, and choose a model wrapper that needs no GPU."""
    if launcher != 'pytorch':
        raise UserError(f'--launcher {launcher} needs CUDA; on CPUs use torchrun and --launcher pytorch')
    if not dist.is_initialized():
        dist.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='CPUDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def _forget_ranks(cfg: Config) -> None:
    """Take ``randomness.diff_rank_seed`` back where there is one process only.

    There it changes nothing but this: MMEngine then shuffles the pictures by a number drawn from NumPy instead of by
    ``randomness.seed``.
    """
    if cfg.get('randomness', {}).get('diff_rank_seed'):
        cfg.randomness.diff_rank_seed = False


def set_global_batch(cfg: Config, world_size: int = 1, cfg_options: dict | None = None) -> tuple[int, int] | None:
    """Make every update see ``cfg.global_batch_size`` pictures, however many processes there are.

    ``train_dataloader.batch_size`` becomes global batch / (processes x accumulation). The accumulation is the
    smallest that divides the rest and keeps the batch of one process within ``cfg.max_batch_per_process``. A config
    without ``global_batch_size`` is left alone, and so is a ``train_dataloader.batch_size`` that the user set.

    Args:
        cfg (mmengine.config.Config): Changed in place.
        world_size (int): Number of processes.
        cfg_options (dict, optional): What the user overrode, by dotted key.

    Returns:
        tuple[int, int] | None: Pictures per process and step, and steps per update; None if left alone.

    Raises:
        UserError: If the global batch cannot be divided so.
    """
    options = cfg_options or {}
    total = cfg.get('global_batch_size')
    if total is None or cfg.get('train_dataloader') is None:
        return None
    if 'train_dataloader.batch_size' in options:
        steps = cfg.optim_wrapper.get('accumulative_counts', 1)
        real = cfg.train_dataloader.batch_size * world_size * steps
        if real != total:
            print_log(
                f'train_dataloader.batch_size was set to {cfg.train_dataloader.batch_size}: the global batch is {real} '
                f'instead of {total}, for which the learning rate was chosen. `--auto-scale-lr` adapts it.',
                logger='current',
                level=logging.WARNING,
            )
        return None
    if total % world_size:
        raise UserError(
            f'global_batch_size {total} cannot be shared by {world_size} processes; start a number that divides it, '
            'or set train_dataloader.batch_size (per process) and --auto-scale-lr'
        )
    share = total // world_size
    steps = _accumulation(share, cfg, options)
    cfg.train_dataloader.batch_size = share // steps
    if steps > 1 or 'accumulative_counts' in cfg.optim_wrapper:
        cfg.optim_wrapper.accumulative_counts = steps
    print_log(
        f'Global batch {total} = {world_size} processes x {share // steps} pictures x {steps} steps per update',
        logger='current',
    )
    return share // steps, steps


def _accumulation(share: int, cfg: Config, options: dict) -> int:
    """Steps per update for ``share`` pictures per process."""
    if 'optim_wrapper.accumulative_counts' in options:
        steps = cfg.optim_wrapper.accumulative_counts
        if share % steps:
            raise UserError(
                f'optim_wrapper.accumulative_counts {steps} does not divide the {share} pictures of a process '
                f'(global_batch_size {cfg.global_batch_size})'
            )
        return steps
    limit = cfg.get('max_batch_per_process') or share
    if limit < 1:
        raise UserError(f'max_batch_per_process must be at least 1, but is {limit}')
    return next(steps for steps in range(1, share + 1) if share % steps == 0 and share // steps <= limit)


def _world_size(launcher: str) -> int:
    """Number of processes as the launcher's environment states it; MMEngine has not started the group yet."""
    variable = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}[launcher]
    if variable not in os.environ:
        raise UserError(f'--launcher {launcher}, but the environment variable {variable} is not set')
    return int(os.environ[variable])
