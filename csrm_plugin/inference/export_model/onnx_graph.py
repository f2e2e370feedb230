"""``model.onnx``: a graph from pictures to probabilities."""

import importlib.util
import json
from collections.abc import Sequence

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from packaging.version import Version
from torch import Tensor, nn

from csrm_plugin.inference.export_model.comparison import TOLERANCES, largest_difference, verdict
from csrm_plugin.utils import UserError

#: Packages that ``--onnx`` needs beside torch.
ONNX_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')

ONNX_OPSET = 18


def check_packages() -> None:
    """Raise unless everything that ``--onnx`` needs is there."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--onnx needs {', '.join(missing)}, not installed here: `pip install -e '.[onnx]'`")
    if Version(torch.__version__) < Version('2.6'):
        raise UserError(f'--onnx needs torch 2.6 or newer, but it is {torch.__version__}')


class ProbabilityGraph(nn.Module):
    """What ``model.onnx`` computes: normalisation, network, resizing to the input's size, softmax.

    Args:
        network (EncoderDecoder): In evaluation mode.
    """

    def __init__(self, network: EncoderDecoder) -> None:
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


def write_onnx(path: str, original: nn.Module, exported: EncoderDecoder, size: tuple[int, int]) -> dict:
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
            return verdict('model.onnx', difference, compared='probs', sizes=sizes, free=list(free), opset=ONNX_OPSET)
    first_line = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
    raise UserError(f'--onnx: the exporter of torch {torch.__version__} cannot take this network ({first_line})')


def default_size(pipeline: Sequence[dict]) -> tuple[int, int]:
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
    return largest_difference(torch.from_numpy(probs), logits.softmax(dim=1))


def _tidy(path, classes) -> None:
    """Take the exporter's notes (paths and lines of source files) out of an ONNX file; add the class names."""
    import onnx

    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        part.ClearField('metadata_props')
        part.ClearField('doc_string')
    onnx.helper.set_model_props(model, dict(classes=json.dumps(classes), images='RGB, 0..255', probs='softmax'))
    onnx.save(model, path)
