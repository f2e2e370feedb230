"""Export a trained network for MMSegmentation without this plugin (EncoderDecoder), and for ONNX."""

import argparse

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='DIR gets model.pth and config.py (for mmseg.apis.init_model), export.json, and with --onnx model.onnx: '
        'input `images` (B, 3, H, W), float32, RGB, 0..255; output `probs` (B, K, H, W), softmax. Both are compared '
        'with the original network on random pictures.',
    )
    parser.add_argument('config', help='config file of the model, for example mmcfg/csrm_voc.py')
    parser.add_argument('checkpoint', help='its weights (.pth)')
    parser.add_argument('--out', metavar='DIR', required=True, help='folder to make')
    parser.add_argument(
        '--network',
        choices=['teacher', 'student'],
        help='which of the two to export (default: model.test_cfg.network of the config, that is, the teacher)',
    )
    parser.add_argument('--onnx', action='store_true', help='also write model.onnx (needs the extra `onnx`)')
    parser.add_argument(
        '--size',
        metavar='HxW',
        help='pixels of the picture that ONNX is traced with; the only size it takes where the exporter cannot leave '
        "height and width open (default: that of the config's test pipeline)",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        default={},
        help='settings that override the config',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.export_model import export_model, parse_size
    from csrm_plugin.utils import UserError

    if args.size and not args.onnx:
        raise UserError('--size is for ONNX; give --onnx too, or leave it out')
    size = parse_size(args.size) if args.size else None
    report = export_model(
        args.config, args.checkpoint, args.out, args.network, args.onnx, size, cfg_options=args.cfg_options
    )
    what = f'{report["network"]} of {args.config}' if report['network'] else args.config
    print(f'wrote {args.out}: {what}, {len(report["classes"])} classes')
    for name in ('model.pth', 'model.onnx'):
        if name in report:
            entry = report[name]
            print(f'  {name}: {entry["compared"]} differ by at most {entry["max_abs_diff"]:.2g} from the original')
    if args.onnx:
        print(f'  model.onnx takes {describe_inputs(report["model.onnx"])}')


def describe_inputs(entry: dict) -> str:
    if 'height' in entry['free']:
        return 'any number of pictures of any size'
    height, width = entry['sizes'][0][1:]
    return (
        f'any number of pictures, but only of {height} x {width} pixels (height x width): the exporter fixed the size'
    )


if __name__ == '__main__':
    run_tool(main, build_parser())
