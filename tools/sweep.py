"""Run a sweep file of Weights & Biases (sweeps/*.yaml) without a server, on Optuna with storage on disk."""

import argparse
import os.path as osp

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Each trial is a training in a folder of its own (trial_NNNN, with trial.log). Its value is the last '
        'one that it logged, as in the summary of W&B. Called again, also after a crash or kill, the sweep goes on: '
        'what is finished stays, what was running is tried again. Start it several times, on several machines with a '
        'common folder or --storage, to share the work. What is done otherwise than by W&B is said at the start and '
        'in sweep.json.',
    )
    add = parser.add_argument
    add('sweep', help='sweep file, for example sweeps/delta_fg.yaml')
    add(
        '--trials',
        type=int,
        metavar='N',
        help='finished trials wanted in all (default: the whole grid, or run_cap of the file)',
    )
    add('--jobs', type=int, default=1, metavar='J', help='trials at a time; GPUs are shared out in turn (default: 1)')
    add('--config', help='config file in place of the one in the command of the sweep file')
    add(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        default={},
        help='settings that are the same for all trials',
    )
    add('--work-dir', metavar='DIR', help='folder of the sweep (default: work_dirs/sweeps/NAME)')
    add(
        '--storage',
        metavar='URL',
        help='database for several machines, for example sqlite:///sweep.db or postgresql://... (default: journal.log '
        'in the folder of the sweep)',
    )
    add('--name', metavar='STUDY', help='name of the study (default: SWEEP_CONFIG)')
    add('--retries', type=int, default=0, metavar='R', help='how often a failed trial is tried again (default: 0)')
    add(
        '--max-failures',
        type=int,
        default=5,
        metavar='F',
        help='failures in a row after which the sweep ends; a later call goes on (default: 5)',
    )
    add(
        '--seed', type=int, metavar='S', help='of random and Bayes search (default: that of the study, 0 for a new one)'
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from rich.console import Console

    from csrm_plugin.experiments.sweep.runner import run_sweep
    from csrm_plugin.report import write_sweep_report

    root = osp.dirname(osp.dirname(osp.abspath(__file__)))
    run_sweep(
        args.sweep,
        root,
        Console(),
        trials=args.trials,
        jobs=args.jobs,
        config=args.config,
        options=args.cfg_options,
        work_dir=args.work_dir,
        storage=args.storage,
        name=args.name,
        retries=args.retries,
        max_failures=args.max_failures,
        seed=args.seed,
        report=write_sweep_report,
    )


if __name__ == '__main__':
    run_tool(main, build_parser())
