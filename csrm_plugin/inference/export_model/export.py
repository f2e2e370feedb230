"""The folder of an exported network."""

import contextlib
import os
import os.path as osp
import re
import shutil
import tempfile

import mmengine
import mmseg
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import init_model

from csrm_plugin.config.load import load_config
from csrm_plugin.inference.export_model.network import build_original, class_names, load_weights
from csrm_plugin.inference.export_model.onnx_graph import check_packages, default_size, write_onnx
from csrm_plugin.inference.export_model.plain import compare_plain, inference_pipeline, plain_config, write_plain
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.utils.quiet import quiet
from csrm_plugin.version import __version__


def export_model(
    config: str,
    checkpoint: str,
    out: str,
    network: str | None = None,
    onnx: bool = False,
    size: tuple[int, int] | None = None,
    cfg_options: dict | None = None,
) -> dict:
    """Write a trained network as a plain ``EncoderDecoder`` and, where asked for, as ONNX, and check both.

    Args:
        config (str): Config file that the checkpoint was trained with: CSRM, or an ``EncoderDecoder`` already.
        checkpoint (str): Its weights.
        out (str): Folder to make; must not exist, or be empty.
        network (str, optional): ``'teacher'`` or ``'student'``; what ``model.test_cfg.network`` says by default.
        onnx (bool): Whether to write ``model.onnx``: input ``images`` (B, 3, H, W), float32, RGB, 0..255; output
            ``probs`` (B, K, H, W), float32, softmax. Resizing to the size the network was tested at, and a sliding
            window where the config has one, are left to the caller.
        size (tuple[int, int], optional): (H, W) of the picture that ONNX is traced with, and the only size that the
            graph takes where the exporter cannot leave it open. By default that of the config's test pipeline.
        cfg_options (dict, optional): Overrides, see :func:`csrm_plugin.config.load.load_config`.

    Returns:
        dict: What ``export.json`` holds: ``config``, ``checkpoint``, ``network`` (None for a plain model),
        ``classes``, ``versions``, and for each file ``max_abs_diff``, ``tolerance`` and the ``sizes`` compared; for
        ``model.onnx`` also ``free`` (the axes left open) and ``opset``.

    Raises:
        MissingFileError: If config or checkpoint do not exist.
        UserError: If the model has no segmentation branch, the checkpoint does not fit, packages for ONNX are
            missing, ``out`` holds something, or an output differs from the original. Nothing is left behind.
    """
    _check_out(out)
    if onnx:
        check_packages()
    cfg = load_config(config, cfg_options)
    init_default_scope('mmseg')
    with quiet(output=True):
        original, source, network = build_original(cfg, config, network)
    meta = load_weights(original, source, checkpoint, '' if network is None else f'{network}.', config)
    meta.update(dataset_meta=class_names(meta, cfg, source, config), network=network)
    report = dict(
        config=os.fspath(config),
        checkpoint=os.fspath(checkpoint),
        network=network,
        classes=meta['dataset_meta']['classes'],
        versions=dict(
            csrm_plugin=__version__, torch=torch.__version__, mmengine=mmengine.__version__, mmseg=mmseg.__version__
        ),
    )
    original.eval()
    original.cfg = Config(dict(test_pipeline=inference_pipeline(cfg, config)))
    with _new_folder(out) as folder, quiet(output=True):
        write_plain(folder, plain_config(cfg, config, network is not None), source, meta)
        exported = init_model(osp.join(folder, 'config.py'), osp.join(folder, 'model.pth'), device='cpu')
        report['model.pth'] = compare_plain(original, exported)
        if onnx:
            size = size or default_size(original.cfg.test_pipeline)
            report['model.onnx'] = write_onnx(osp.join(folder, 'model.onnx'), original, exported, size)
        write_json(osp.join(folder, 'export.json'), report)
    return report


def parse_size(text: str) -> tuple[int, int]:
    """Read ``HxW``.

    Example:
        >>> parse_size('96x128')
        (96, 128)
    """
    match = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text.strip())
    if match is None:
        raise UserError(f'--size must be HxW in pixels, for example 512x512, but is `{text}`')
    return int(match.group(1)), int(match.group(2))


def _check_out(out) -> None:
    """Raise unless the folder is free."""
    if osp.exists(out) and (not osp.isdir(out) or os.listdir(out)):
        raise UserError(f'--out: `{out}` exists and is not an empty folder; give another, or remove it')


@contextlib.contextmanager
def _new_folder(path):
    """Give a temporary folder beside ``path`` that gets its name if the block ends well, and is removed if not."""
    path = osp.abspath(path)
    os.makedirs(osp.dirname(path), exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f'.{osp.basename(path)}.', dir=osp.dirname(path))
    try:
        yield folder
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(folder, 0o777 & ~umask)  # `mkdtemp` makes folders for the owner alone
        if osp.isdir(path):
            os.rmdir(path)
        os.rename(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
