"""Make mask proposals for `tools/refine_sam.py` with a Segment Anything checkpoint (SAM, SAM-HQ) of transformers.

Writes <id>.json for each picture, in the form of Segment Anything's own mask generator with --convert-to-rle, and
masks.json, which says how they were made. Pictures that have their file already are left alone.

With the word `superpixels` as CHECKPOINT the masks are segments of scikit-image (felzenszwalb) at several scales. That
is NOT Segment Anything: it shows the mechanism where there are no weights, and its results mean nothing for SEPL.

Examples:
    python tools/sam_masks.py facebook/sam-vit-huge data/msrc/JPEGImages --out sam_masks --split-file train.txt
    python tools/sam_masks.py superpixels data/msrc/JPEGImages --out superpixels
"""

import argparse

from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='folder as save_pretrained of transformers writes it, hub name such as facebook/sam-vit-huge, or '
        '`superpixels` (not SAM, mechanism only)',
    )
    parser.add_argument('pictures', metavar='PICTURES', help='folder of the pictures')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for <id>.json and masks.json')
    parser.add_argument('--split-file', metavar='FILE', help='list of picture ids, one per line (default: all)')
    parser.add_argument('--suffix', default='.jpg', metavar='END', help='ending of the pictures (default: .jpg)')
    parser.add_argument(
        '--min-mask-area', type=int, default=0, metavar='N', help='drop masks below N pixels (default: 0)'
    )
    parser.add_argument(
        '--shard', default='0/1', metavar='I/N', help='part i, from 0, of n parts of the list (default: 0/1, all)'
    )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='superpixels only: processes (default: one per core, at most 8)'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='read the files that are there already, and make damaged ones again (default: what is there is whole)',
    )
    add_sam(parser.add_argument_group('Segment Anything only'))
    return parser


def add_sam(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--points-per-side', type=int, default=32, metavar='N', help='N x N points prompt the model (default: 32)'
    )
    group.add_argument(
        '--points-per-batch',
        type=int,
        default=64,
        metavar='N',
        help='points at a time; does not change the masks; halved when the memory is full (default: 64)',
    )
    group.add_argument(
        '--pred-iou-thresh',
        type=float,
        default=0.88,
        metavar='F',
        help='keep masks that the model rates above this IoU, 0 to 1; 0 keeps all (default: 0.88)',
    )
    group.add_argument(
        '--stability-score-thresh',
        type=float,
        default=0.95,
        metavar='F',
        help='keep masks that change less with the cut-off, 0 to 1; 0 keeps all (default: 0.95)',
    )
    group.add_argument(
        '--crop-layers',
        type=int,
        default=0,
        metavar='N',
        help='see the picture in 4, then 16, ... crops as well, N times (default: 0, the whole picture alone)',
    )
    group.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1, ... (default: auto)')


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.sam_masks import SUPERPIXELS, SamSettings, make_masks, report_line
    from csrm_plugin.utils.processes import available_cores
    from csrm_plugin.utils.shards import parse_shard

    workers = args.workers
    if workers is None:
        workers = min(available_cores(), 8) if args.checkpoint == SUPERPIXELS else 0
    settings = SamSettings(
        points_per_side=args.points_per_side,
        pred_iou_thresh=args.pred_iou_thresh,
        stability_score_thresh=args.stability_score_thresh,
        crop_layers=args.crop_layers,
    )
    summary = make_masks(
        args.checkpoint,
        args.pictures,
        args.out,
        split_file=args.split_file,
        suffix=args.suffix,
        settings=settings,
        min_mask_area=args.min_mask_area,
        points_per_batch=args.points_per_batch,
        device=args.device,
        workers=workers,
        shard=parse_shard(args.shard),
        check=args.check,
    )
    print(report_line(summary))


if __name__ == '__main__':
    run_tool(main, build_parser())
