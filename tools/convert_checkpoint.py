"""Convert a published checkpoint to our key names: ResNeSt, MiT, EfficientNet-Lite, Puzzle-CAM, P-NOC, CSRM."""

import argparse
import os

import torch

import csrm_plugin  # noqa: F401  (mends what the hosts need)
from csrm_plugin.models.checkpoints.convert import DEPTHS, KINDS, Conversion, convert
from csrm_plugin.models.checkpoints.io import read_checkpoint, unwrap_state_dict
from csrm_plugin.utils import atomic_write
from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', metavar='IN', help='checkpoint as published')
    parser.add_argument('output', metavar='OUT', help="file to write; `load_from` or a backbone's init_cfg reads it")
    parser.add_argument(
        '--kind',
        choices=['auto', *KINDS, 'keep'],
        default='auto',
        help='where it comes from; auto tells by its key names, keep leaves the names alone (default: auto)',
    )
    parser.add_argument(
        '--depth', type=int, choices=sorted(set(DEPTHS.values())), help='layers the backbone must have (default: any)'
    )
    parser.add_argument(
        '--no-decoder', action='store_true', help='leave out decoder and representation branch of a CSRM checkpoint'
    )
    parser.add_argument(
        '--unsafe',
        action='store_true',
        help='unpickle any Python object: it can run code from the file, so only for files you trust',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    state_dict = unwrap_state_dict(read_checkpoint(args.input, unsafe=args.unsafe))
    result = convert(state_dict, kind=args.kind, depth=args.depth, heads=not args.no_decoder)
    meta = dict(
        source=os.path.basename(args.input),
        source_kind=result.kind,
        family=result.family,
        depth=result.depth,
        num_image_classes=result.num_classes,
        decoder_norm=result.norm,
        dropped=sorted(result.dropped),
    )
    # Into an open file: given a path, torch writes the (temporary) name into the archive.
    with atomic_write(args.output) as path, open(path, 'wb') as file:
        torch.save(dict(meta=meta, state_dict=result.state_dict), file)
    print_result(result, args.output)


def print_result(result: Conversion, output: str) -> None:
    classes = 'no classifier' if result.num_classes is None else f'{result.num_classes} image classes'
    print(f'kind {result.kind}: {result.family}, depth {result.depth or "unknown"}, {classes}')
    if result.norm:
        print(f'norm layers of the decoder: {result.norm.upper()}; set norm_cfg of decode_head accordingly')
    width = max(len(group) for group, _, _ in result.groups())
    for group, count, example in result.groups():
        print(f'  {group:<{width}}  {count:>5} tensors, such as {example}')
    print(f'wrote {output}')


if __name__ == '__main__':
    run_tool(main, build_parser())
