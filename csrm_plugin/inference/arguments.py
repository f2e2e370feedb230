"""Arguments of tools that predict pictures."""

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.utils.cli import add_debug_argument
from csrm_plugin.utils.label_sources import SOURCES


def add_inference_arguments(parser):
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
        help='settings of DenseCRF, for example iterations=10 bilateral_sxy=50; implies --crf',
    )
    add('--workers', type=int, metavar='N', help='processes for dCRF and files (default: cores - 1, at most 8)')
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


def inference_settings(args):
    """The arguments of :func:`add_inference_arguments` that decide on label maps, as a dict."""
    crf = args.crf_options if args.crf or args.crf_options else None
    names = ('source', 'scales', 'flip', 'threshold')
    return {**{name: getattr(args, name) for name in names}, 'crf': crf}
