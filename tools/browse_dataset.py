"""Draw what a model really learns from: pictures, weak labels, CAMs, pseudo labels, and both after mixing."""

import argparse

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, for example mmcfg/csrm_demo.py')
    parser.add_argument(
        '--checkpoint',
        metavar='FILE',
        help="weights of the model, or of a classifier that it starts from (default: the config's load_from; without "
        'it, random ones)',
    )
    parser.add_argument('--out', metavar='DIR', help='folder for the PNGs (default: work_dirs/<name>/browse)')
    parser.add_argument('--count', type=int, default=8, metavar='N', help='number of pictures (default: 8)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        default={},
        help='settings that override the config; unknown keys are refused',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.browsing import browse

    paths = browse(args.config, args.checkpoint, args.out, args.count, args.cfg_options)
    print('\n'.join(paths[:-1]))
    print(f'{len(paths) - 1} pictures; contact sheet: {paths[-1]}')


if __name__ == '__main__':
    run_tool(main, build_parser())
