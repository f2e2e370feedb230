"""Train a model from a config."""

import argparse

from csrm_plugin.config.arguments import add_config_arguments
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='go on from a checkpoint; alone or as `auto`: from the newest in the work directory, else from the '
        "config's load_from",
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (bfloat16 on CPUs)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the global batch (pictures per update over all processes)',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.engine.training import prepare_training, run_training

    cfg = prepare_training(
        args.config,
        cfg_options=args.cfg_options,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        launcher=args.launcher,
    )
    run_training(cfg)


if __name__ == '__main__':
    run_tool(main, build_parser())
