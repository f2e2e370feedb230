"""Segment any pictures with a trained model: palette PNGs of class indices, and overlays."""

import argparse

from csrm_plugin.inference.arguments import add_inference_arguments, inference_settings
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Pictures that have their files in DIR already are skipped. labels.json there says what they stand on.',
    )
    add = parser.add_argument
    add('config', help='config file of the model')
    add('checkpoint', help='its weights (.pth)')
    add('pictures', nargs='+', help='folders, files or patterns ("photos/*.jpg")')
    add('--out', metavar='DIR', required=True, help='folder for <name>.png and overlays/<name>.png')
    add('--labels', metavar='FILE', help='JSON file of image-level labels (see the README); others are not predicted')
    add('--no-overlays', action='store_true', help='label maps only')
    return add_inference_arguments(parser)


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.predict import predict_pictures

    done = predict_pictures(
        args.config,
        args.checkpoint,
        args.pictures,
        args.out,
        settings=inference_settings(args),
        label_file=args.labels,
        overlays=not args.no_overlays,
        cfg_options=args.cfg_options,
        workers=args.workers,
        device=args.device,
        tile=args.tile,
        amp=args.amp,
        check=args.check,
    )
    print(
        f'{args.out}: {done["made"]} pictures done, {done["skipped"]} were there, '
        f'{done["images_per_second"]:.2f} images/s'
    )


if __name__ == '__main__':
    run_tool(main, build_parser())
