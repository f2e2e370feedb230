"""Score a checkpoint on the config's test data."""

import argparse

from csrm_plugin.config.arguments import add_config_arguments
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file (.pth)')
    parser.add_argument('--out', metavar='DIR', help='save each prediction as a palette PNG of class indices')
    parser.add_argument('--json', metavar='FILE', help='write the metrics (percent) and what they belong to')
    parser.add_argument(
        '--tta', action='store_true', help="test-time augmentation: the config's tta_model, tta_pipeline"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.engine.testing import prepare_testing, run_test

    cfg = prepare_testing(
        args.config,
        args.checkpoint,
        cfg_options=args.cfg_options,
        work_dir=args.work_dir,
        tta=args.tta,
        launcher=args.launcher,
    )
    run_test(cfg, out_dir=args.out, json_path=args.json)


if __name__ == '__main__':
    run_tool(main, build_parser())
