"""Enhance label maps by the masks of Segment Anything (SEPL, Chen et al. 2023).

A mask goes to the foreground class with the most pixels in it, and is selected if the class fills more than
--min-mask-overlap of the mask, or the mask covers at least --min-label-coverage of the class. Selected masks become the
label; where no mask lies, the label stays. Pictures that are in --out already are left alone.

Masks are read from <id>.json (run lengths, as `tools/sam_masks.py` and Segment Anything's own script with
--convert-to-rle write them; also SA-1B), <id>.npz (`masks`) or a folder <id>/ of PNG.
"""

import argparse

from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'labels', metavar='LABEL_DIR', help='folder of <id>.png; its labels.json, if any, gives classes and palette'
    )
    parser.add_argument('masks', metavar='MASK_DIR', help='folder of masks')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the new palette PNGs')
    parser.add_argument('--split-file', required=True, metavar='FILE', help='list of picture ids, one per line')
    parser.add_argument(
        '--min-mask-overlap',
        type=float,
        default=0.5,
        metavar='F',
        help='a mask is selected if its class fills more than this fraction of it, 0 to 1 (default: 0.5)',
    )
    parser.add_argument(
        '--min-label-coverage',
        type=float,
        default=0.85,
        metavar='F',
        help="or if it covers at least this fraction of the class's pixels in the picture, 0 to 1 (default: 0.85)",
    )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes; 0 works in this one (default: one per core, at most 8)'
    )
    parser.add_argument(
        '--shard', default='0/1', metavar='I/N', help='part i, from 0, of n parts of the list (default: 0/1, all)'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='read the files that are there already, and make damaged ones again (default: what is there is whole)',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.refine_sam import refine_folder, report_line
    from csrm_plugin.utils.processes import available_cores
    from csrm_plugin.utils.shards import parse_shard

    summary = refine_folder(
        args.labels,
        args.masks,
        args.out,
        args.split_file,
        min_mask_overlap=args.min_mask_overlap,
        min_label_coverage=args.min_label_coverage,
        workers=min(available_cores(), 8) if args.workers is None else args.workers,
        shard=parse_shard(args.shard),
        check=args.check,
    )
    print(report_line(summary))


if __name__ == '__main__':
    run_tool(main, build_parser())
