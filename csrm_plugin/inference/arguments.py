"""Arguments of tools: those of all that predict pictures, and a look at those that name a file to write."""

import argparse
import os
import os.path as osp

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.utils import UserError
from csrm_plugin.utils.cli import add_debug_argument
from csrm_plugin.utils.label_sources import SOURCES


def add_inference_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what every tool takes that predicts pictures: scales, flip, dCRF, device, tiles, half precision, options.

    Returns:
        argparse.ArgumentParser: The same parser.
    """
    add = parser.add_argument
    add(
        '--source',
        choices=list(SOURCES),
        help='what labels are made from: CAMs, the segmentation, or CAMs that the model has propagated (default: the '
        "config's)",
    )
    add(
        '--scales',
        type=float,
        nargs='+',
        metavar='S',
        default=[1.0],
        help='factors of the size that the config tests at (default: 1; the paper: 0.5 1 1.5 2)',
    )
    add('--flip', action='store_true', help='see each scale mirrored as well')
    add(
        '--threshold',
        type=float,
        metavar='T',
        help="0..1. CAMs: score of the background (default: the config's). Segmentation: pixels less certain than T "
        'become 255 (default: none)',
    )
    add('--crf', action='store_true', help='refine with dCRF, in a pool beside the inference')
    add(
        '--crf-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        default={},
        help='settings of DenseCRF, for example iterations=10 bilateral_sxy=50, and unary=labels (default where image '
        'labels restrict) or unary=probs (default for unrestricted segmentations): what it begins with; implies --crf',
    )
    add('--workers', type=int, metavar='N', help='processes for dCRF and files (default: cores - 1, at most 8)')
    add(
        '--check',
        action='store_true',
        help='read the files that are there already, and make damaged ones again (default: what is there is whole)',
    )
    add('--device', help='cpu, cuda, cuda:1 (default: cuda where there is one)')
    add('--tile', type=int, metavar='PIXELS', help='cut larger views into tiles (default: when out of memory)')
    add('--amp', action='store_true', help='half precision on CUDA (changes numbers slightly)')
    add(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        default={},
        help='settings that override the config',
    )
    return add_debug_argument(parser)


def inference_settings(args: argparse.Namespace) -> dict:
    """The arguments of :func:`add_inference_arguments` that decide on label maps, as a dict."""
    crf = args.crf_options if args.crf or args.crf_options else None
    names = ('source', 'scales', 'flip', 'threshold')
    return {**{name: getattr(args, name) for name in names}, 'crf': crf}


def require_writable(path: str, setting: str) -> None:
    """Say before the work, not after it, that a result could not be written.

    Args:
        path (str): The file that is to be written; missing parent folders will be made.
        setting (str): Where it was asked for, for the message.

    Raises:
        UserError: If it is a folder, or the folder to write to is none or is write-protected.
    """
    if osp.isdir(path):
        raise UserError(f'{setting}: `{path}` is a folder: give the name of a file')
    folder = osp.dirname(osp.abspath(path))
    while not osp.lexists(folder):
        folder = osp.dirname(folder)
    if not osp.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        reason = 'is write-protected' if osp.isdir(folder) else 'is no folder'
        raise UserError(f'{setting}: `{path}` cannot be written, for `{folder}` {reason}')
