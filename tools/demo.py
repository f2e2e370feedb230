"""Train a classifier and then CSRM on synthetic pictures, on the CPU, and compare them."""

import argparse
import os.path as osp

from csrm_plugin.utils.cli import run_tool

CONFIGS = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'mmcfg')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir',
        default=osp.join('work_dirs', 'demo'),
        metavar='DIR',
        help='folder for checkpoints, scores and pictures (default: work_dirs/demo)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the training (default: 0)')
    parser.add_argument(
        '--quick', action='store_true', help='a few iterations on a few small pictures, to see that everything runs'
    )
    return parser


def main(args: argparse.Namespace) -> None:
    import warnings

    from rich.console import Console

    # The host's deprecation notes would break the progress display, and mean nothing to who watches it.
    warnings.filterwarnings('ignore', category=UserWarning, module='mm(seg|engine|cv)')
    from csrm_plugin.experiments.demo import run_demo
    from csrm_plugin.report import write_report
    from csrm_plugin.report.paper.table import write_cards_table
    from csrm_plugin.report.paper.table_text import print_table

    configs = [osp.relpath(osp.join(CONFIGS, name)) for name in ('cam_demo.py', 'csrm_demo.py')]
    console = Console()
    _, cards = run_demo(configs, args.work_dir, args.seed, console, quick=args.quick)
    print_table(write_cards_table(cards, osp.join(args.work_dir, 'table')), console)
    console.print(f'Report, for a browser: {write_report([args.work_dir])}', highlight=False, soft_wrap=True)


if __name__ == '__main__':
    run_tool(main, build_parser())
