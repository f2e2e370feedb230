r"""Say what the pixel labels that a training would learn from are worth, on pictures that have masks.

The labels are those of `model.pseudo_label` (foreground above fg, background below bg, between the two none), at every
pair of the thresholds, without and with refinement: how many pixels have a label, and how right it is.

Examples:
    python tools/audit_labels.py mmcfg/cam_msrc.py work_dirs/cam_msrc/epoch_10.pth --scales 0.5 1 1.5 --flip \
        --json audit.json --plot audit.png
    python tools/audit_labels.py mmcfg/csrm_msrc.py work_dirs/cam_msrc/epoch_10.pth --fg 0.6 0.65 0.7 --bg 0.4 0.5 0.6
"""

import argparse

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.utils.cli import run_tool

#: Columns of the table where the output is no terminal.
WIDTH = 150

EPILOG = """\
The recommended fg and bg have the best mIoU on the labelled pixels among the settings that label at least
--min-coverage percent of the pixels, and of the pixels of objects. (On its own, that mIoU rises as fewer pixels are
labelled, and the share that is labelled as more are labelled wrongly; a training needs many labels that are right.)

A pixel whose mask is 255 is not counted. Labels are made as in the training: CAMs at the size that the config tests at,
averaged after ReLU, of the picture's own classes, at the stride of `model.pseudo_label`. With the config of a CSRM, the
checkpoint may be that of the classifier it starts from. The masks serve this evaluation alone: thresholds that were
chosen with them are knowledge from masks, and a table of results should say so."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file of a model with CAMs: a classifier, CSRM, RML')
    add('checkpoint', help='its weights (.pth)')
    add('--split', help="list in ImageSets/Segmentation (default: that of the config's test); those with a mask count")
    add(
        '--scales',
        type=float,
        nargs='+',
        metavar='S',
        help="factors of the network's input whose CAMs are averaged (default: the config's, else 1)",
    )
    add(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='see each scale mirrored as well (default: as the config does, else not)',
    )
    add('--fg', type=float, nargs='+', metavar='T', help='foreground thresholds, 0..1 (default: 0.3 0.4 0.5 0.6 0.7)')
    add(
        '--bg',
        type=float,
        nargs='+',
        metavar='T',
        help='background thresholds, 0..1; pairs with bg above fg are left out (default: 0.1 0.2 0.3 0.4 0.5 0.6)',
    )
    add(
        '--crf',
        action=argparse.BooleanOptionalAction,
        help='with dCRF alone, or without any refinement (default: without, and with what the config refines with: '
        'dCRF where it names nothing)',
    )
    add(
        '--min-coverage',
        type=float,
        default=80.0,
        metavar='P',
        help='percent of the pixels, and of those of objects, that a recommended setting labels (default: 80)',
    )
    add('--limit', type=int, metavar='N', help='at most N pictures, evenly spread over the list (default: all)')
    add('--workers', type=int, metavar='N', help='processes for dCRF and counting (default: cores - 1, at most 8)')
    add('--device', help='cpu, cuda, cuda:1 (default: cuda where there is one)')
    add('--json', metavar='OUT', help='write all scores (percent) and what they stand on')
    add('--plot', metavar='FILE', help='draw mIoU and precision over coverage (.png, .pdf or .svg)')
    add(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        default={},
        help='settings that override the config',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    import os

    from rich.console import Console

    from csrm_plugin.inference.arguments import require_writable
    from csrm_plugin.inference.audit_labels import audit_labels, plot_audit, print_audit
    from csrm_plugin.utils import write_json
    from csrm_plugin.visualization.curves import require_plot_format

    if args.plot is not None:
        require_plot_format(args.plot, '--plot')
    for path, setting in ((args.json, '--json'), (args.plot, '--plot')):
        if path is not None:
            require_writable(path, setting)
    report = audit_labels(
        args.config,
        args.checkpoint,
        split=args.split,
        scales=args.scales,
        flip=args.flip,
        **{name: value for name, value in (('fg', args.fg), ('bg', args.bg)) if value is not None},
        crf=args.crf,
        min_coverage=args.min_coverage,
        limit=args.limit,
        workers=args.workers,
        device=args.device,
        cfg_options=args.cfg_options,
    )
    # Written first: what is printed may go to a program that stops reading.
    if args.json is not None:
        write_json(args.json, report)
    if args.plot is not None:
        plot_audit(args.plot, report)
    console = Console()
    if not console.is_terminal and 'COLUMNS' not in os.environ:
        console.width = WIDTH
    print_audit(report, console)
    for path in filter(None, (args.json, args.plot)):
        print(f'wrote {path}')


if __name__ == '__main__':
    run_tool(main, build_parser())
