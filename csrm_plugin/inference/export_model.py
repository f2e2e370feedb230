"""Hand a trained segmentation network over to programs that know only the host, or only ONNX.

A folder is written: ``model.pth`` and ``config.py``, an ``EncoderDecoder`` for :func:`mmseg.apis.init_model`; where
asked for ``model.onnx``; and ``export.json`` with the largest difference to the original network. What differs by more
than :data:`TOLERANCES` is not written at all.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import os.path as osp
import re
import shutil
import tempfile
import warnings

import mmengine
import mmseg
import numpy as np
import torch
from mmcv.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import DATASETS, MODELS, TRANSFORMS
from packaging.version import Version
from torch import Tensor, nn

from csrm_plugin.config.keys import find_classes
from csrm_plugin.config.load import load_config
from csrm_plugin.datasets.transforms import PackWSSSInputs
from csrm_plugin.datasets.voc_layout import shorten, voc_palette
from csrm_plugin.models.checkpoints.io import read_checkpoint, unwrap_state_dict
from csrm_plugin.models.segmentors import TeacherStudent, WSSSSegmentor
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.version import __version__

#: Largest difference to the original network: of logits in ``model.pth``, of probabilities in ``model.onnx``.
TOLERANCES = {'model.pth': 1e-5, 'model.onnx': 1e-3}

#: Packages that ``--onnx`` needs beside torch.
ONNX_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
ONNX_OPSET = 18

#: (H, W) of the random pictures, in pixels, before the test pipeline resizes them.
_PICTURES = ((75, 101), (120, 90))

#: Parts of an ``EncoderDecoder``; the other branches of a network are left out.
_PARTS = ('backbone', 'neck', 'decode_head')


def export_model(config, checkpoint, out, network=None, onnx=False, size=None, cfg_options=None) -> dict:
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
        _check_onnx_packages()
    cfg = load_config(config, cfg_options)
    init_default_scope('mmseg')
    with _quiet():
        original, source, network = build_original(cfg, config, network)
    meta = load_weights(source, checkpoint, '' if network is None else f'{network}.', config)
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
    with _new_folder(out) as folder, _quiet():
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


def build_original(cfg, config, network=None):
    """Build the model of a config, with untrained weights, and choose the network to export.

    Args:
        cfg (mmengine.config.Config): The config.
        config (str): Its file, for messages.
        network (str, optional): See :func:`export_model`.

    Returns:
        tuple[nn.Module, EncoderDecoder, str | None]: The model, the network in it, and its name there; the model
        itself and None for a plain ``EncoderDecoder``.

    Raises:
        UserError: If the model has no segmentation branch, or no such network.
    """
    settings = _settings(cfg)
    kind = MODELS.get(settings['type'])
    if isinstance(kind, type) and issubclass(kind, WSSSSegmentor):
        settings = kind.prediction_settings(settings)
    model = MODELS.build(Config(dict(model=settings)).model)
    if isinstance(model, TeacherStudent) and isinstance(model.predictor, EncoderDecoder):
        if network is not None:
            model.test_cfg['network'] = network
        return model, model.predictor, model.test_cfg['network']
    if type(model) is not EncoderDecoder:
        raise UserError(_no_network(model, settings['type'], config))
    if network is not None:
        raise UserError(f'--network {network}: `{config}` is a plain EncoderDecoder, without teacher and student')
    return model, model, None


def _no_network(model, kind, config) -> str:
    """Why a model has no plain network to write, and what else there is."""
    if type(model).encode_decode is WSSSSegmentor.encode_decode:
        lacks, mend = 'has no segmentation branch', 'give the config and checkpoint of a model that has one'
    else:
        lacks = 'segments without a decoder, by what it does with its CAMs, so that there is no `EncoderDecoder`'
        mend = 'use it as it is (tools/predict.py, init_model), or export a network that learnt from its labels'
    return f'`{config}` is a {kind}, which {lacks} to export; {mend}'


def load_weights(module, path, prefix, config) -> dict:
    """Load the tensors of a checkpoint that begin with ``prefix`` into a module; each must be there, and no other.

    Args:
        module (nn.Module): Gets the weights.
        path (str): The checkpoint, read without running code that it may hold.
        prefix (str): For example ``teacher.``.
        config (str): For the message.

    Returns:
        dict: ``epoch``, ``iter`` and ``dataset_meta`` of the checkpoint's ``meta``, as far as they are there.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it cannot be read, or is not of this model.
    """
    checkpoint = read_checkpoint(path)
    try:
        state = unwrap_state_dict(checkpoint)
    except UserError as error:
        raise UserError(f'checkpoint `{path}`: {error}') from error
    state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    own = module.state_dict()
    lists = {
        'are missing': [name for name in own if name not in state and not name.endswith('num_batches_tracked')],
        'are unknown': [name for name in state if name not in own],
        'have another shape': [name for name in state if name in own and own[name].shape != state[name].shape],
    }
    wrong = [
        f'{len(names)} {what} ({shorten(prefix + name for name in names)})' for what, names in lists.items() if names
    ]
    if wrong:
        raise UserError(
            f'checkpoint `{path}` does not fit `{config}`: of {len(own)} tensors {"; ".join(wrong)}. Give the config '
            'that it was trained with, and the same --cfg-options.'
        )
    module.load_state_dict(state, strict=False)
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    kept = {name: meta[name] for name in ('epoch', 'iter', 'dataset_meta') if name in meta}
    return dict(kept, source=osp.basename(os.fspath(path)))


def class_names(meta, cfg, network, config) -> dict:
    """Names and colours of the classes: the checkpoint's, else those of the config's test data.

    Args:
        meta (dict): With the checkpoint's ``dataset_meta``, where it has one.
        cfg (mmengine.config.Config): The config.
        network (EncoderDecoder): How many classes there must be.
        config (str): For the message.

    Returns:
        dict: ``classes`` (list of K str) and ``palette`` (K lists of RGB, 0..255; VOC's where none is given).

    Raises:
        UserError: If there are no names, or not as many as the network has classes.
    """
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    kind = DATASETS.get(dataset['type']) if isinstance(dataset.get('type'), str) else None
    candidates = (meta.get('dataset_meta'), dataset.get('metainfo'), getattr(kind, 'METAINFO', None))
    found = next((item for item in candidates if item and item.get('classes')), None)
    count = network.decode_head.num_classes
    if found is None or len(found['classes']) != count:
        what = 'nobody names its classes' if found is None else f'the data has {len(found["classes"])}'
        raise UserError(
            f'the network of `{config}` has {count} classes, but {what}; set '
            'test_dataloader.dataset.metainfo.classes, or give the checkpoint of this config'
        )
    palette = found.get('palette') or voc_palette(count)
    return dict(
        classes=[str(name) for name in found['classes']],
        palette=[[int(value) for value in colour] for colour in palette],
    )


def inference_pipeline(cfg, config) -> list[dict]:
    """Steps of the test pipeline but those that load masks: what the host needs for a picture without truth."""
    steps = cfg.get('test_dataloader', {}).get('dataset', {}).get('pipeline') or cfg.get('test_pipeline')
    if not steps:
        raise UserError(f'config `{config}` has no test_pipeline')
    steps = [dict(_simple(step)) for step in steps]
    return [step for step in steps if not _is_kind(step, LoadAnnotations)]


def plain_config(cfg, config, is_branch: bool) -> Config:
    """Config of the plain model: no bases, no initialisation, and types of ours only where nothing else will do.

    Args:
        cfg (mmengine.config.Config): Config of the original.
        config (str): Its file, for messages.
        is_branch (bool): Whether the network is one of two in a model, with branches that are left out.

    Returns:
        mmengine.config.Config: ``default_scope``, ``model``, ``test_pipeline`` and, where one of these has a type
        that the host lacks, ``custom_imports``.
    """
    model = _settings(cfg)
    if is_branch:
        parts = {name: model[name] for name in ('data_preprocessor', *_PARTS) if model.get(name) is not None}
        model = dict(type='EncoderDecoder', **parts, test_cfg=dict(mode='whole'))
    pipeline = inference_pipeline(cfg, config)
    for step in pipeline:
        if _is_kind(step, PackWSSSInputs):
            step['type'] = 'PackSegInputs'
    plain = dict(default_scope='mmseg', model=model, test_pipeline=pipeline)
    imports = _needed_imports(plain, cfg)
    if imports:
        plain['custom_imports'] = dict(imports=imports, allow_failed_imports=False)
    return Config(plain)


def write_plain(folder, plain, network, meta) -> None:
    """Write ``config.py`` and ``model.pth``.

    Args:
        folder (str): Where.
        plain (mmengine.config.Config): From :func:`plain_config`.
        network (EncoderDecoder): Whose weights are written; its other branches are not.
        meta (dict): Plain data for the checkpoint's ``meta``.
    """
    plain.dump(osp.join(folder, 'config.py'))
    parts = (*_PARTS, 'auxiliary_head')
    state = {name: value for name, value in network.state_dict().items() if name.split('.')[0] in parts}
    # Into an open file: given a path, torch writes its (temporary) name into the archive.
    with open(osp.join(folder, 'model.pth'), 'wb') as file:
        torch.save(dict(meta=meta, state_dict=state), file)


def compare_plain(original, exported) -> dict:
    """Largest difference of the logits that the host's :func:`inference_model` gives for random pictures.

    Args:
        original (nn.Module): The model that was trained, with ``cfg.test_pipeline``.
        exported (EncoderDecoder): As from :func:`init_model`.

    Returns:
        dict: ``max_abs_diff`` (float), ``tolerance``, ``compared`` and ``sizes`` (H, W).

    Raises:
        UserError: If it is above the tolerance.
    """
    random, difference = np.random.default_rng(0), 0.0
    for size in _PICTURES:
        picture = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        logits = [inference_model(model, picture).seg_logits.data for model in (original, exported)]
        difference = max(difference, _difference(*logits))
    return _verdict('model.pth', difference, compared='seg_logits', sizes=_PICTURES)


class ProbabilityGraph(nn.Module):
    """What ``model.onnx`` computes: normalisation, network, resizing to the input's size, softmax.

    Args:
        network (EncoderDecoder): In evaluation mode.
    """

    def __init__(self, network) -> None:
        super().__init__()
        self.network = network
        preprocessor = network.data_preprocessor
        # MMSegmentation and its fork call it by different names. The loader gives BGR, which it turns into RGB.
        self.is_rgb = any(getattr(preprocessor, name, False) for name in ('channel_conversion', '_channel_conversion'))
        self.is_normalized = getattr(preprocessor, '_enable_normalize', False)

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) of pictures (B, 3, H, W), float32, RGB, 0..255."""
        inputs = images if self.is_rgb else images.flip(1)
        if self.is_normalized:
            preprocessor = self.network.data_preprocessor
            inputs = (inputs - preprocessor.mean) / preprocessor.std
        logits = self.network.decode_head(self.network.extract_feat(inputs))
        logits = resize(
            logits, images.shape[2:], mode='bilinear', align_corners=self.network.align_corners, warning=False
        )
        return logits.softmax(dim=1)


def write_onnx(path, original, exported, size) -> dict:
    """Write ``model.onnx``, with as many open axes as the exporter manages, and compare it with the original.

    Args:
        path (str): The file.
        original (nn.Module): The model that was trained.
        exported (EncoderDecoder): The plain one, which is traced.
        size (tuple[int, int]): (H, W) of the traced picture.

    Returns:
        dict: ``max_abs_diff``, ``tolerance``, ``compared``, ``sizes`` (B, H, W), ``free`` (``batch`` and, where
        possible, ``height`` and ``width``) and ``opset``.

    Raises:
        UserError: If the exporter fails, or the graph computes something else.
    """
    if getattr(exported.data_preprocessor, 'test_cfg', None):
        raise UserError('--onnx: model.data_preprocessor.test_cfg pads the pictures, which the graph cannot; unset it')
    if exported.out_channels == 1:
        raise UserError('--onnx: a network with one output channel has no softmax; train it with two classes')
    height, width = size
    fixed = [(1, height, width), (2, height, width)]
    other = (1, height * 3 // 4 + 1, width * 5 // 4 + 1)
    graph, failure = ProbabilityGraph(exported).eval(), None
    for free, sizes in ((('batch', 'height', 'width'), [*fixed, other]), (('batch',), fixed)):
        try:
            _trace(path, graph, size, free)
            difference = max(_onnx_difference(path, original, shape) for shape in sizes)
        except Exception as error:  # the exporter and the runtime raise errors of many kinds
            failure = error
            continue
        if difference <= TOLERANCES['model.onnx'] or free == ('batch',):
            _tidy(path, exported.dataset_meta['classes'])
            return _verdict('model.onnx', difference, compared='probs', sizes=sizes, free=list(free), opset=ONNX_OPSET)
    first_line = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
    raise UserError(f'--onnx: the exporter of torch {torch.__version__} cannot take this network ({first_line})')


def default_size(pipeline) -> tuple[int, int]:
    """(H, W) of a test pipeline's ``Resize``; a square of its shorter side where it keeps the proportions."""
    for step in pipeline:
        scale = step.get('scale') if step['type'] == 'Resize' else None
        if isinstance(scale, (tuple, list)) and len(scale) == 2:
            return (min(scale), min(scale)) if step.get('keep_ratio') else (scale[1], scale[0])
    return 512, 512


def _trace(path, graph, size, free) -> None:
    """Write the ONNX file of a graph, with the axes named in ``free`` open."""
    axes = {axis: name for axis, name in ((0, 'batch'), (2, 'height'), (3, 'width')) if name in free}
    # Two pictures: a batch of one would be taken for a constant.
    example = torch.zeros(2, 3, *size)
    torch.onnx.export(
        graph,
        (example,),
        path,
        input_names=['images'],
        output_names=['probs'],
        dynamo=True,
        external_data=False,
        dynamic_shapes=dict(images=axes),
        opset_version=ONNX_OPSET,
        verbose=False,
    )


def _onnx_difference(path, original, shape) -> float:
    """Largest difference of probabilities for random pictures of ``shape`` (B, H, W)."""
    import onnxruntime

    batch, height, width = shape
    random = torch.Generator().manual_seed(height)
    pictures = torch.randint(0, 256, (batch, 3, height, width), generator=random, dtype=torch.uint8)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (probs,) = session.run(['probs'], {'images': pictures.float().numpy()})
    with torch.no_grad():
        # As from the loader: one BGR picture at a time.
        inputs = original.data_preprocessor(dict(inputs=list(pictures.flip(1))))['inputs']
        logits = original.encode_decode(inputs, [dict(img_shape=inputs.shape[2:])] * batch)
    return _difference(torch.from_numpy(probs), logits.softmax(dim=1))


def _tidy(path, classes) -> None:
    """Take the exporter's notes (paths and lines of source files) out of an ONNX file; add the class names."""
    import onnx

    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        part.ClearField('metadata_props')
        part.ClearField('doc_string')
    onnx.helper.set_model_props(model, dict(classes=json.dumps(classes), images='RGB, 0..255', probs='softmax'))
    onnx.save(model, path)


def _difference(first: Tensor, second: Tensor) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    return float((first - second).abs().max()) if first.shape == second.shape else float('inf')


def _verdict(name, difference, **context) -> dict:
    """The report of an output; raises if it is too far from the original (or NaN)."""
    tolerance = TOLERANCES[name]
    if not difference <= tolerance:
        raise UserError(
            f'{name} gives other {context["compared"]} than the original network: they differ by up to '
            f'{difference:.3g}, more than {tolerance:g}. Nothing is written; a component of this model does not '
            'compute the same outside of it, or its weights are not finite.'
        )
    return dict(max_abs_diff=difference, tolerance=tolerance, **context)


def _settings(cfg) -> dict:
    """``cfg.model`` as a plain dict, ready for a prediction on any device.

    Without initialisation, for the weights are trained; with BN for SyncBN, which needs GPUs and predicts the same.
    """
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise UserError(f'config `{cfg.filename}` has no model')
    settings = _simple(cfg.model)
    if settings['type'].rpartition('.')[2] == 'EncoderDecoder':
        settings['test_cfg'] = settings.get('test_cfg') or dict(mode='whole')  # the host needs one
    return settings


def _simple(node):
    """Copy of ``node`` made of plain dicts, see :func:`_settings`."""
    if isinstance(node, dict):
        node = {key: _simple(value) for key, value in node.items() if key not in ('init_cfg', 'pretrained')}
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
        return node
    return type(node)(_simple(item) for item in node) if isinstance(node, (list, tuple)) else node


def _is_kind(step, kind) -> bool:
    """Whether a step of a pipeline is of a class or one derived from it."""
    found = TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type']
    return isinstance(found, type) and issubclass(found, kind)


def _needed_imports(plain, cfg) -> list[str]:
    """Which of the config's ``custom_imports``, and whether ours, bring a type that ``plain`` names."""
    roots = {entry.__module__.partition('.')[0] for name in _types(plain) for entry in find_classes(name)}
    listed = cfg.get('custom_imports', {}).get('imports') or []
    listed = [listed] if isinstance(listed, str) else listed
    ours = __name__.partition('.')[0]
    return [name for name in dict.fromkeys([ours, *listed]) if name.partition('.')[0] in roots]


def _types(node):
    """Every ``type`` below ``node``."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _types(item)


def _check_out(out) -> None:
    """Raise unless the folder is free."""
    if osp.exists(out) and (not osp.isdir(out) or os.listdir(out)):
        raise UserError(f'--out: `{out}` exists and is not an empty folder; give another, or remove it')


def _check_onnx_packages() -> None:
    """Raise unless everything that ``--onnx`` needs is there."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--onnx needs {', '.join(missing)}, not installed here: `pip install -e '.[onnx]'`")
    if Version(torch.__version__) < Version('2.6'):
        raise UserError(f'--onnx needs torch 2.6 or newer, but it is {torch.__version__}')


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


@contextlib.contextmanager
def _quiet():
    """Silence what host and exporter say: names of temporary files, and warnings about their own code."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
