"""What networks and refinements cost: parameters, multiply-adds, and time as a ratio to the first of one run.

Seconds depend on the machine and on what else it does. So everything that is compared runs in one process, in turn
(A B A B ...), and what is reported beside the median is the ratio to the first, taken round by round.
"""

import copy
import importlib.util
import logging
import math
import os.path as osp
import platform
import statistics
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from csrm_plugin.config.load import load_config
from csrm_plugin.datasets.synthetic import draw_picture
from csrm_plugin.functional import pixel_adaptive_refinement
from csrm_plugin.refine import dense_crf
from csrm_plugin.utils import UserError
from csrm_plugin.utils.devices import choose_device

#: Sides below this, in pixels, do not survive the strides of the backbones.
MIN_SIDE = 32


@dataclass
class Candidate:
    """A network, and how it sees a picture.

    Attributes:
        name (str): Name of the config.
        model (BaseSegmentor): In evaluation mode, with random weights.
        scales (tuple[float]): Sizes, relative to the input, that one prediction sees.
        flip (bool): Whether each is also seen mirrored.
    """

    name: str
    model: nn.Module = field(repr=False)
    scales: tuple = (1.0,)
    flip: bool = False

    @property
    def views(self) -> str:
        """The views in words, such as ``0.5 1 1.5, flip``."""
        return ' '.join(f'{scale:g}' for scale in self.scales) + (', flip' if self.flip else '')

    @property
    def backbone(self) -> nn.Module | None:
        """The backbone that predicts: of a teacher and its student one does."""
        return getattr(getattr(self.model, 'predictor', self.model), 'backbone', None)

    def predict(self, inputs: Tensor) -> None:
        """Predict normalised pictures (B, 3, H, W), from the input to label maps of its size.

        A model with views of its own (``prediction_views``) is told these; of any other each view is predicted.
        """
        if own_views(self.model) is not None:
            self.model.prediction_views = self.scales, self.flip
            self.model.predict(inputs)
            return
        for scale in self.scales:
            view = inputs if scale == 1 else resize(inputs, scale_factor=scale, mode='bilinear', align_corners=False)
            self.model.predict(view)
            if self.flip:
                self.model.predict(view.flip(3))


def own_views(model) -> tuple | None:
    """``prediction_views`` of a model, see :class:`WSSSSegmentor`; None for those of the host."""
    return getattr(model, 'prediction_views', None)


def compare_inference(
    configs, size=(375, 500), scales=(1.0,), flip=False, repeats=5, device=None, classes=None
) -> dict:
    """Count and time the prediction of one picture by the networks of several configs.

    A model that averages views by itself, such as RML, gets a second row with its own where they are others.

    Args:
        configs (Sequence[str]): Config files, ours or the host's; ``mmseg::NAME`` is one that the host brings.
        size (tuple[int, int]): Height and width of the picture in pixels.
        scales (Sequence[float]): Sizes, relative to that, that one prediction sees.
        flip (bool): Whether each is also seen mirrored.
        repeats (int): Rounds, each with one prediction per row, after one that does not count.
        device (str, optional): See :func:`csrm_plugin.utils.devices.choose_device`.
        classes (int, optional): Classes of all networks, background included; those of the first config by default.

    Returns:
        dict: ``context`` and ``rows``; each row has ``name``, ``views``, ``stride`` (of the last stage, in pixels),
        ``parameters`` (``total``, ``used`` by a prediction, ``parts``: name to both), ``multiply_adds`` of one
        prediction, ``rest_multiply_adds`` of what comes beside the backbone (heads and affinities), what
        :func:`summarise` gives for the time, and under ``rest`` what it gives for the part of it outside the backbone:
        heads, resizing, and what else makes a label map.

    Raises:
        UserError: For what the user can mend.
    """
    size, scales = check_size(size), tuple(scales)
    if not scales or min(scales) <= 0 or min(scales) * min(size) < MIN_SIDE:
        raise UserError(f'--scales must be above 0 and leave at least {MIN_SIDE} pixels of --size, but are {scales}')
    check_repeats(repeats)
    device = choose_device(device)
    cfgs = [read_any_config(config) for config in configs]
    classes = count_classes(cfgs[0], configs[0]) if classes is None else classes
    if classes < 2:
        raise UserError(f'--classes must be at least 2, background included, but is {classes}')
    candidates = []
    for config, cfg in zip(configs, cfgs):
        model = build_model(cfg, config, classes).to(device)
        name = osp.splitext(osp.basename(config))[0]
        candidates.append(Candidate(name, model, scales, flip))
        own = own_views(model)
        if own not in (None, (scales, flip)):
            candidates.append(Candidate(name, model, *own))
    inputs = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        rows = [cost_of(candidate, inputs) for candidate in candidates]
        clocks = [BackboneClock(candidate, inputs) for candidate in candidates]
        times = take_turns(clocks, repeats, device)
    rests = [[total - own for total, own in zip(mine, clock.seconds[-repeats:])] for mine, clock in zip(times, clocks)]
    for row, summary, rest in zip(rows, summarise(times), summarise(rests)):
        row.update(summary, rest=rest)
    context = machine(device) | dict(
        size=list(size), classes=classes, repeats=repeats, weights='random', precision='float32', batch=1
    )
    return dict(context=context, rows=rows)


def compare_refinement(size=(375, 500), classes=4, repeats=5, device=None, seed=0) -> dict:
    """Time dCRF and pixel-adaptive refinement (PAR), with their default settings, on one synthetic picture.

    Both refine the same soft maps of the same size. dCRF runs on one core; PAR on ``device``, with torch's threads.

    Args:
        size (tuple[int, int]): Height and width of the picture in pixels.
        classes (int): Maps, background included, at least 2.
        repeats (int): Rounds, each with one refinement by either, after one that does not count.
        device (str, optional): See :func:`csrm_plugin.utils.devices.choose_device`.
        seed (int): Of picture and maps.

    Returns:
        dict: ``context`` and ``rows``; each row has ``name`` and what :func:`summarise` gives.

    Raises:
        UserError: For what the user can mend.
    """
    size = check_size(size)
    if classes < 2:
        raise UserError(f'--classes must be at least 2, background included, but is {classes}')
    check_repeats(repeats)
    device = choose_device(device)
    picture, _ = draw_picture(np.random.default_rng(seed), image_size=size[::-1])
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, size[0] // 16 + 1, size[1] // 16 + 1, generator=generator)
    probs = resize(coarse * 2, size, mode='bilinear', align_corners=False).softmax(dim=1)
    array = probs[0].numpy()
    images, masks = torch.from_numpy(picture).permute(2, 0, 1)[None].to(device), probs.to(device)
    runs = [lambda: dense_crf(picture, array), lambda: pixel_adaptive_refinement(images, masks)]
    rows = [dict(name='dCRF (pydensecrf, 10 iterations)'), dict(name='PAR (10 iterations, 6 dilations)')]
    for row, summary in zip(rows, summarise(take_turns(runs, repeats, device))):
        row.update(summary)
    return dict(context=machine(device) | dict(size=list(size), classes=classes, repeats=repeats, seed=seed), rows=rows)


def check_size(size) -> tuple[int, int]:
    """Give ``size`` as a tuple, or raise ``UserError`` if a side is below :data:`MIN_SIDE` pixels."""
    if min(size) < MIN_SIDE:
        raise UserError(f'--size must be at least {MIN_SIDE} pixels on each side, but is {" x ".join(map(str, size))}')
    return tuple(size)


def check_repeats(repeats) -> None:
    """Raise ``UserError`` unless ``repeats`` is at least 1."""
    if repeats < 1:
        raise UserError(f'--repeats must be at least 1, but is {repeats}')


def read_any_config(config) -> Config:
    """Read a config file; ``PACKAGE::NAME`` is one that an installed host package brings, as in ``_base_``.

    Raises:
        UserError: If there is no such package or file, or no model in it.
    """
    package, separator, name = config.partition('::')
    path = config
    if separator:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f'config `{config}`: there is no package `{package}`; did you mean mmseg::{name}?')
        path = osp.join(spec.submodule_search_locations[0], '.mim', 'configs', name)
    cfg = load_config(path)
    if 'model' not in cfg:
        raise UserError(f'config `{config}` has no model')
    return cfg


def count_classes(cfg, config) -> int:
    """Classes of a config's network, background included.

    Raises:
        UserError: If the config does not say.
    """
    if 'cam_head' in cfg.model:
        return cfg.model.cam_head.num_classes + 1
    if 'decode_head' in cfg.model and not isinstance(cfg.model.decode_head, list):
        return cfg.model.decode_head.num_classes
    raise UserError(
        f'config `{config}` has neither a cam_head nor one decode_head that says its classes; set --classes'
    )


def build_model(cfg, config, classes: int) -> nn.Module:
    """Build a network for predictions, with random weights.

    Args:
        cfg (mmengine.config.Config): From :func:`read_any_config`; left as it is.
        config (str): Its name, for messages.
        classes (int): Classes, background included: every head gets as many, or one less where it has no background.

    Returns:
        BaseSegmentor: In evaluation mode, on the CPU.

    Raises:
        UserError: If it is none that predicts pictures.
    """
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    settings = copy.deepcopy(cfg.model)
    _forget_weights(settings)
    for name in ('decode_head', 'auxiliary_head'):
        heads = settings.get(name) or []
        for head in heads if isinstance(heads, list) else [heads]:
            head['num_classes'] = classes
            head.pop('out_channels', None)
    if 'cam_head' in settings:
        settings['cam_head']['num_classes'] = classes - 1
    if (settings.get('pseudo_label') or {}).get('crf'):
        settings['pseudo_label']['crf']['workers'] = 0  # the pool of the training's dCRF is not needed
    with _quiet():
        model = MODELS.build(settings)
        if not hasattr(model, 'predict'):
            raise UserError(f'config `{config}`: a {type(model).__name__} does not predict pictures')
        model.init_weights()
    return revert_sync_batchnorm(model).eval()


def _forget_weights(node) -> None:
    """Leave out every pretrained checkpoint below ``node``, in place: nothing is read or fetched for a count."""
    if isinstance(node, dict):
        if node.get('pretrained') is not None:
            node['pretrained'] = None
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, dict) and 'checkpoint' in init_cfg:
            node['init_cfg'] = None
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _forget_weights(child)


@contextmanager
def _quiet():
    """Silence the hosts: MMEngine logs how each parameter was initialised, MMSegmentation warns about itself."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


class UsedParameters(TorchFunctionMode):
    """Notes which parameters take part in what is computed while it is active.

    Attributes:
        found (set[int]): ``id`` of each parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call ``func``, and note the parameters among its arguments where tensors come out of it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # Questions about a parameter (its device, say) are no use of it.
        if any(isinstance(item, Tensor) for item in _flat(result)):
            self.found |= {id(item) for item in _flat((args, kwargs)) if isinstance(item, nn.Parameter)}
        return result


def _flat(value):
    """What is in nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, (tuple, list)):
        return [value]
    return [item for element in value for item in _flat(element)]


def cost_of(candidate: Candidate, inputs: Tensor) -> dict:
    """Parameters and multiply-adds of one prediction, counted while it runs.

    Multiply-adds are those of convolutions and matrix products, attention included; norm layers, activations,
    interpolation and the like, a small rest, are not counted.

    Args:
        candidate (Candidate): The network.
        inputs (Tensor): Normalised pictures (B, 3, H, W), float.

    Returns:
        dict: The row without its times, see :func:`compare_inference`.
    """
    counter, strides, inside = FlopCounterMode(display=False), [], []

    def leave(_module, seen, outputs):
        inside[-1] = counter.get_total_flops() - inside[-1]
        last = outputs[-1] if isinstance(outputs, (tuple, list)) else outputs
        strides.append(seen[0].shape[3] / last.shape[3])

    # torch's fused attention would be one step that hides its products.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with UsedParameters() as used:
            candidate.predict(inputs)
        with around_backbone(candidate, lambda *_: inside.append(counter.get_total_flops()), leave), counter:
            candidate.predict(inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    total = counter.get_total_flops()
    return dict(
        name=candidate.name,
        views=candidate.views,
        stride=2 ** round(math.log2(strides[0])) if strides else None,  # powers of 2; sizes are rounded up
        parameters=count_parameters(candidate.model, used.found),
        # The counter counts a multiplication and an addition as two.
        multiply_adds=total // 2,
        rest_multiply_adds=(total - sum(inside)) // 2,
    )


@contextmanager
def around_backbone(candidate: Candidate, enter, leave):
    """Call ``enter`` before and ``leave`` after each pass of the candidate's backbone, as torch calls its hooks."""
    backbone, handles = candidate.backbone, []
    if backbone is not None:
        handles = [backbone.register_forward_pre_hook(enter), backbone.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class BackboneClock:
    """Predicts with a candidate, and notes how long its backbone takes of that.

    Args:
        candidate (Candidate): The network.
        inputs (Tensor): Normalised pictures (B, 3, H, W), float.

    Attributes:
        seconds (list[float]): In the backbone, by call.
    """

    def __init__(self, candidate: Candidate, inputs: Tensor) -> None:
        self.candidate, self.inputs = candidate, inputs
        self.seconds = []

    def __call__(self) -> None:
        """Predict once."""
        self.seconds.append(0.0)
        with around_backbone(self.candidate, self._start, self._stop):
            self.candidate.predict(self.inputs)

    def _start(self, *_):
        self.started = now(self.inputs.device)

    def _stop(self, *_):
        self.seconds[-1] += now(self.inputs.device) - self.started


def now(device=None) -> float:
    """Seconds of a monotonic clock, once the device has done its work."""
    if device is not None and torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def count_parameters(model: nn.Module, used) -> dict:
    """Count parameters in all and by part.

    Args:
        model (nn.Module): Its children are the parts; a child with a backbone (a student, a teacher) counts by its own.
        used (set[int]): ``id`` of the parameters that a prediction uses.

    Returns:
        dict: ``total``, ``used``, and ``parts``: name to a dict of both.
    """
    parts = {}
    for name, child in model.named_children():
        nested = child.named_children() if hasattr(child, 'backbone') else ()
        parts.update({f'{name}.{inner}': part for inner, part in nested} or {name: child})
    counted = {
        name: dict(
            total=sum(parameter.numel() for parameter in part.parameters()),
            used=sum(parameter.numel() for parameter in part.parameters() if id(parameter) in used),
        )
        for name, part in parts.items()
    }
    whole = list(model.parameters())
    return dict(
        total=sum(parameter.numel() for parameter in whole),
        used=sum(parameter.numel() for parameter in whole if id(parameter) in used),
        parts={name: part for name, part in counted.items() if part['total']},
    )


def take_turns(runs, repeats: int, device=None, warmup: int = 1) -> list[list[float]]:
    """Time functions in turn: A B A B ...

    Args:
        runs (Sequence[Callable[[], object]]): What to time.
        repeats (int): Rounds that count.
        device (torch.device, optional): Whose work is waited for.
        warmup (int): Rounds before that do not count.

    Returns:
        list[list[float]]: Seconds, by function and round.
    """
    times = [[] for _ in runs]
    for turn in range(warmup + repeats):
        for run, own in zip(runs, times):
            start = now(device)
            run()
            if turn >= warmup:
                own.append(now(device) - start)
    return times


def summarise(times) -> list[dict]:
    """Median and spread, and the ratio to the first.

    Args:
        times (list[list[float]]): Seconds, as from :func:`take_turns`.

    Returns:
        list[dict]: For each function ``seconds`` and ``ratio``, both with ``median``, ``min`` and ``max``. The ratio is
        taken round by round, since the speed of a machine drifts.
    """

    def spread(values):
        return dict(median=statistics.median(values), min=min(values), max=max(values))

    return [
        dict(seconds=spread(own), ratio=spread([mine / first for mine, first in zip(own, times[0])])) for own in times
    ]


def machine(device) -> dict:
    """What figures depend on: device, threads, versions."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
    return dict(device=f'{device.type} ({name})', threads=torch.get_num_threads(), torch=str(torch.__version__))


def table(report):
    """Draw a report of :func:`compare_inference` or :func:`compare_refinement`.

    Args:
        report (dict): With ``rows``.

    Returns:
        rich.table.Table: Times in milliseconds, parameters in millions, multiply-adds in billions.
    """
    from rich.table import Table

    networks = 'parameters' in report['rows'][0]
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column('network' if networks else 'refinement', overflow='fold')
    counts = ['scales', 'stride', 'parameters M', 'used M', 'multiply-adds G'] if networks else []
    rest = ['outside backbone: G', 'ms', 'ratio'] if networks else []
    for head in [*counts, 'ms, median', 'min .. max', 'ratio', 'min .. max', *rest]:
        drawn.add_column(head, justify='right')
    for row in report['rows']:
        drawn.add_row(row['name'], *(_counts(row) if networks else ()), *_times(row), *(_rest(row) if networks else ()))
    return drawn


def _counts(row):
    count = row['parameters']
    millions = [f'{count[name] / 1e6:.2f}' for name in ('total', 'used')]
    return [row['views'], str(row['stride'] or ''), *millions, f'{row["multiply_adds"] / 1e9:.2f}']


def _times(row):
    ms, ratio = {key: value * 1e3 for key, value in row['seconds'].items()}, row['ratio']
    spread = f'{ratio["min"]:.3f} .. {ratio["max"]:.3f}'
    return [f'{ms["median"]:.0f}', f'{ms["min"]:.0f} .. {ms["max"]:.0f}', f'{ratio["median"]:.3f}', spread]


def _rest(row):
    rest, products = row['rest'], row['rest_multiply_adds']
    return [f'{products / 1e9:.2f}', f'{rest["seconds"]["median"] * 1e3:.0f}', f'{rest["ratio"]["median"]:.3f}']


def notes(report) -> list[str]:
    """Lines below the table: what the figures depend on, and parameters by part."""
    context = report['context']
    settings = ', '.join(
        f'{name} {" x ".join(map(str, value)) if isinstance(value, list) else value}' for name, value in context.items()
    )
    lines = [f'Measured with {settings}. Ratios are to the first row, round by round.']
    seen = set()
    for row in report['rows']:
        if 'parameters' in row and row['name'] not in seen:
            seen.add(row['name'])
            parts = ', '.join(
                f'{name} {part["total"]:,}' + ('' if part['used'] == part['total'] else f' ({part["used"]:,} used)')
                for name, part in row['parameters']['parts'].items()
            )
            lines.append(f'Parameters of {row["name"]}: {parts}.')
    strides = {row.get('stride') for row in report['rows']}
    if len(strides) > 1:
        lines.append(
            'The last stages have different strides (pixels of the input per position): a smaller one costs more time '
            'with the same parameters.'
        )
    return lines
