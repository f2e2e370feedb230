r"""Score label maps, or CAMs over background thresholds, against masks.

Examples:
    python tools/evaluate_labels.py work_dirs/labels/train data/msrc/SegmentationClass \
        --split-file data/msrc/ImageSets/Segmentation/train.txt --json scores.json
    python tools/evaluate_labels.py work_dirs/labels/train data/msrc/SegmentationClass \
        --split-file data/msrc/ImageSets/Segmentation/train.txt --thresholds 0.05:0.95:0.05 --plot curve.png
"""

import argparse

from csrm_plugin.utils.cli import run_tool
from csrm_plugin.utils.processes import available_cores


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'pred_dir',
        metavar='PRED_DIR',
        help='folder of label maps <id>.png (class indices, 255 uncertain); with --thresholds it, or its folder cams, '
        'holds <id>.npz',
    )
    parser.add_argument('gt_dir', metavar='GT_DIR', help='folder of masks <id>.png (class indices, 255 not counted)')
    parser.add_argument('--split-file', required=True, metavar='F', help='list of the pictures, one id per line')
    parser.add_argument(
        '--classes',
        metavar='NAME|FILE',
        help='class names: voc, coco, msrc, demo, or a JSON file {"classes": [...]} (default: labels.json in PRED_DIR, '
        'else the label file beside GT_DIR, else numbers)',
    )
    parser.add_argument(
        '--thresholds',
        metavar='A:B:C',
        help='score the CAMs at the background thresholds start:stop:step, 0 to 1, stop included, for example '
        '0.05:0.95:0.05 (default: no curve)',
    )
    parser.add_argument(
        '--threshold',
        type=float,
        metavar='T',
        help='background threshold of the CAMs fixed beforehand, 0 to 1 (default: the one in labels.json, if any)',
    )
    parser.add_argument('--json', metavar='OUT', help='write the scores (percent) and what they belong to')
    parser.add_argument('--plot', metavar='FILE', help='draw the curve (.png, .pdf or .svg)')
    parser.add_argument(
        '--workers',
        type=int,
        default=available_cores(),
        metavar='N',
        help='processes; 0 works in the main one (default: the cores there are, here %(default)s)',
    )
    parser.add_argument('--suffix', default='.png', metavar='END', help='ending of the label maps (default: .png)')
    parser.add_argument('--gt-suffix', default='.png', metavar='END', help='ending of the masks (default: .png)')
    return parser


def main(args: argparse.Namespace) -> None:
    from rich.console import Console

    from csrm_plugin.inference.arguments import require_writable
    from csrm_plugin.inference.evaluate_labels import evaluate_label_folder, print_report
    from csrm_plugin.utils import UserError, write_json
    from csrm_plugin.visualization.curves import require_plot_format, save_threshold_curve

    if args.plot is not None:
        if args.thresholds is None:
            raise UserError('--plot draws the curve over thresholds: give --thresholds start:stop:step too')
        require_plot_format(args.plot, '--plot')
    for path, setting in ((args.json, '--json'), (args.plot, '--plot')):
        if path is not None:
            require_writable(path, setting)
    report = evaluate_label_folder(
        args.pred_dir,
        args.gt_dir,
        args.split_file,
        classes=args.classes,
        thresholds=args.thresholds,
        threshold=args.threshold,
        workers=args.workers,
        suffix=args.suffix,
        gt_suffix=args.gt_suffix,
    )
    # Written first: what is printed may go to a program that stops reading.
    if args.json is not None:
        write_json(args.json, report)
    if args.plot is not None:
        context = report['context']
        title = f'{context["pred_dir"]}\n{context["split"]}, {context["pictures"]} pictures, CAMs without CRF'
        save_threshold_curve(args.plot, report['curve'], report['best'], report['fixed'], title)
    print_report(report, Console())
    for path in filter(None, (args.json, args.plot)):
        print(f'wrote {path}')


if __name__ == '__main__':
    run_tool(main, build_parser())
