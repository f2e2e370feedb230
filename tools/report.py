"""Write a report of runs, of a pipeline or of a sweep: one HTML file that opens without network."""

import argparse

from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Scores are in percent, times in seconds, minutes and hours. A folder without record/ (an older or a '
        'foreign run) is reported from its log alone.',
    )
    parser.add_argument(
        'work_dirs',
        nargs='+',
        metavar='WORK_DIR',
        help='work directory of tools/train.py; several are put side by side. Or the folder of tools/pipeline.py, of '
        'tools/sweep.py (alone), or one whose direct sub-folders are runs, such as that of the demo',
    )
    parser.add_argument('--out', metavar='FILE', help='file to write (default: report.html in the first WORK_DIR)')
    parser.add_argument(
        '--reference',
        metavar='WORK_DIR',
        help='for a sweep of model.pseudo_label.fg_threshold: work directory of the classifier whose CAM scores are '
        "drawn beside (default: the folder of the sweep's load_from)",
    )
    parser.add_argument(
        '--table', metavar='DIR', help='write only table.json and table.md of one pipeline, to this folder'
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.report import write_report, write_sweep_report
    from csrm_plugin.report.paper.table import write_table
    from csrm_plugin.utils import UserError

    if args.table is not None:
        if len(args.work_dirs) > 1 or args.reference is not None or args.out is not None:
            raise UserError('--table is for the folder of one pipeline, without --out and --reference')
        write_table(args.work_dirs[0], args.table)
        return
    if args.reference is None:
        path = write_report(args.work_dirs, args.out)
    elif len(args.work_dirs) > 1:
        raise UserError('--reference is for the folder of one sweep, but several folders are given')
    else:
        path = write_sweep_report(args.work_dirs[0], args.out, args.reference)
    print(f'Report: {path}')


if __name__ == '__main__':
    run_tool(main, build_parser())
