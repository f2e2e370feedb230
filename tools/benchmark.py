"""Count parameters and multiply-adds, and time networks or refinements against each other in one run."""

import argparse

from csrm_plugin.utils.cli import add_debug_argument, run_tool

#: Columns of the table where the output is no terminal.
WIDTH = 190


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Times depend on the machine and on what else it does: only the ratios, which come from interleaved '
        'runs in one process, are worth quoting, with the context below the table.',
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    inference = commands.add_parser(
        'inference',
        help='prediction of one picture by the networks of several configs, with random weights',
        description='Parameters (in all, and those that a prediction uses), multiply-adds (convolutions and matrix '
        'products) and time of the prediction of one picture, from the normalised input to the label map of its size. '
        'All networks get the classes of the first.',
    )
    inference.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG',
        help='config file, or one that the host brings: mmseg::segformer/segformer_mit-b1_8xb2-160k_ade20k-512x512.py; '
        'times are ratios to the first',
    )
    inference.add_argument(
        '--scales',
        type=float,
        nargs='+',
        default=[1.0],
        metavar='S',
        help='sizes relative to --size that one prediction sees; a model that averages views by itself, such as RML, '
        'gets a second row with its own (default: 1)',
    )
    inference.add_argument('--flip', action='store_true', help='see each scale mirrored as well')
    inference.add_argument(
        '--classes', type=int, metavar='K', help='classes, background included (default: those of the first config)'
    )
    refinement = commands.add_parser(
        'refinement',
        help='dCRF against pixel-adaptive refinement on one synthetic picture',
        description='Time of dCRF (one core) and of pixel-adaptive refinement, with their default settings, for the '
        'same soft maps of one synthetic picture.',
    )
    refinement.add_argument(
        '--classes', type=int, default=4, metavar='K', help='maps, background included (default: 4)'
    )
    for command in (inference, refinement):
        command.add_argument(
            '--size',
            type=int,
            nargs=2,
            default=[375, 500],
            metavar=('H', 'W'),
            help='height and width of the picture in pixels (default: 375 500, as most of VOC)',
        )
        command.add_argument(
            '--repeats', type=int, default=5, metavar='N', help='rounds after one that does not count (default: 5)'
        )
        command.add_argument('--device', help='cpu, cuda, cuda:1 (default: cuda where there is one)')
        command.add_argument('--json', metavar='OUT', help='write all figures: seconds, counts, ratios')
        add_debug_argument(command)
    return parser


def main(args: argparse.Namespace) -> None:
    import os

    from rich.console import Console

    from csrm_plugin.inference import benchmark
    from csrm_plugin.utils import write_json

    common = dict(size=args.size, repeats=args.repeats, device=args.device, classes=args.classes)
    if args.command == 'inference':
        report = benchmark.compare_inference(args.configs, scales=args.scales, flip=args.flip, **common)
    else:
        report = benchmark.compare_refinement(**common)
    if args.json:
        write_json(args.json, report)
    console = Console()
    if not console.is_terminal and 'COLUMNS' not in os.environ:
        console.width = WIDTH
    console.print(benchmark.table(report))
    for line in benchmark.notes(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == '__main__':
    run_tool(main, build_parser())
