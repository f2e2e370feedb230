"""Train a model from a config."""

import argparse

from csrm_plugin.cli import add_config_arguments, run_tool


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='PATH',
        help='go on from a checkpoint; alone or as `auto`: from the newest in the work directory, else from the '
        "config's load_from")  # fmt: skip
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (bfloat16 on CPUs)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help='scale the learning rate with the global batch (pictures per update over all processes)')  # fmt: skip
    return parser


def main(args):
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
