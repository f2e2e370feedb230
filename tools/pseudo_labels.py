"""Make pseudo labels of a split with a trained model: a palette PNG per picture."""

import argparse

from csrm_plugin.inference.arguments import add_inference_arguments, inference_settings
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='A second call skips what is there. labels.json in DIR says what the labels stand on; other settings '
        'want another DIR. Several processes, GPUs or Slurm array jobs: give each its --shard and the same DIR.',
    )
    add = parser.add_argument
    add('config', help='config file of the model, for example mmcfg/csrm_voc.py')
    add('checkpoint', help='its weights (.pth)')
    add('--out', metavar='DIR', required=True, help='folder for <id>.png')
    add('--crf-out', metavar='DIR', help='the same labels with dCRF, from one inference; those of --out are without')
    add('--split', default='train', help='list in ImageSets/Segmentation (default: train)')
    add('--shard', default='0/1', metavar='i/n', help='part i (from 0) of n of the split (default: 0/1)')
    add_inference_arguments(parser)
    add(
        '--bg-threshold',
        type=float,
        metavar='T',
        help='0..1, CAMs only: what is foreground at this lower threshold alone becomes 255',
    )
    add(
        '--threshold-from',
        metavar='FILE',
        help='CAMs only: take the best threshold of the curve in FILE, which `tools/evaluate_labels.py --thresholds '
        '--json FILE` wrote of a split with masks; labels.json says which split that was',
    )
    add(
        '--unrestricted',
        action='store_true',
        help='do not use image-level labels: any class (seg), or what the classifier sees (cam)',
    )
    add('--save-cams', action='store_true', help='also DIR/cams/<id>.npz, half precision, compressed')
    add('--json', metavar='FILE', help='write what was done: counts, speed, tiled pictures')
    return parser


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.pseudo_labels import make_pseudo_labels
    from csrm_plugin.utils import write_json
    from csrm_plugin.utils.shards import parse_shard

    settings = dict(
        inference_settings(args),
        bg_threshold=args.bg_threshold,
        unrestricted=args.unrestricted,
        threshold_from=args.threshold_from,
    )
    summary = make_pseudo_labels(
        args.config,
        args.checkpoint,
        args.out,
        split=args.split,
        settings=settings,
        cfg_options=args.cfg_options,
        save_cams=args.save_cams,
        crf_out=args.crf_out,
        shard=parse_shard(args.shard),
        workers=args.workers,
        device=args.device,
        tile=args.tile,
        amp=args.amp,
        check=args.check,
    )
    print(
        f'{args.out}: {summary["made"]} label maps made, {summary["skipped"]} were there, '
        f'{summary["images_per_second"]:.2f} images/s'
    )
    if args.json:
        write_json(args.json, summary)


if __name__ == '__main__':
    run_tool(main, build_parser())
