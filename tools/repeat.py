"""Train and test a config with several seeds: mean and standard deviation of its scores."""

import argparse
import os.path as osp

from csrm_plugin.utils.cli import run_tool

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Each seed has a folder of its own, seed_S. Called again, finished seeds are skipped and interrupted '
        'ones resumed; what belongs to other settings, code or data is set aside under another name, never deleted.',
    )
    add = parser.add_argument
    add('config', help='config file, for example mmcfg/csrm_demo.py')
    add('--seeds', type=int, nargs='+', required=True, metavar='S', help='different seeds, at least 0')
    add(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        default=[],
        help='settings that override the config, the same for all seeds',
    )
    add('--splits', nargs='+', metavar='SPLIT', default=[], help="what is scored (default: the config's test split)")
    add('--work-dir', metavar='DIR', help='folder for all seeds (default: ./work_dirs/repeat_<name of the config>)')
    add('--jobs', type=int, default=1, metavar='N', help='seeds at a time; GPUs are shared out in turn (default: 1)')
    add(
        '--processes',
        type=int,
        default=1,
        metavar='N',
        help='processes of each training, by torchrun, each with a GPU of its own where there are GPUs (default: 1)',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from rich.console import Console

    from csrm_plugin.experiments.repetition import repeat

    repeat(
        args.config,
        args.seeds,
        ROOT,
        Console(),
        cfg_options=args.cfg_options,
        work_dir=args.work_dir,
        splits=args.splits,
        jobs=args.jobs,
        processes=args.processes,
    )


if __name__ == '__main__':
    run_tool(main, build_parser())
