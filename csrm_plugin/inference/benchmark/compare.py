"""Comparisons of networks and of refinements, each in one process."""

import os.path as osp
from collections.abc import Sequence

import numpy as np
import torch
from mmseg.models.utils import resize

from csrm_plugin.datasets.synthetic import draw_picture
from csrm_plugin.functional import pixel_adaptive_refinement
from csrm_plugin.inference.benchmark.candidates import Candidate, build_model, count_classes, own_views, read_any_config
from csrm_plugin.inference.benchmark.clocks import BackboneClock, machine, summarise, take_turns
from csrm_plugin.inference.benchmark.costs import cost_of
from csrm_plugin.refine import dense_crf
from csrm_plugin.utils import UserError
from csrm_plugin.utils.devices import choose_device

#: Sides below this, in pixels, do not survive the strides of the backbones.
MIN_SIDE = 32


def compare_inference(
    configs: Sequence[str],
    size: Sequence[int] = (375, 500),
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    repeats: int = 5,
    device: str | None = None,
    classes: int | None = None,
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
    candidates = _candidates(configs, cfgs, classes, scales, flip, device)
    rows = _measure(candidates, size, repeats, device)
    context = machine(device) | dict(
        size=list(size), classes=classes, repeats=repeats, weights='random', precision='float32', batch=1
    )
    return dict(context=context, rows=rows)


def _candidates(configs, cfgs, classes, scales, flip, device) -> list[Candidate]:
    """The networks of the configs on a device; one with views of its own a second time with these."""
    candidates = []
    for config, cfg in zip(configs, cfgs):
        model = build_model(cfg, config, classes).to(device)
        name = osp.splitext(osp.basename(config))[0]
        candidates.append(Candidate(name, model, scales, flip))
        own = own_views(model)
        if own not in (None, (scales, flip)):
            candidates.append(Candidate(name, model, *own))
    return candidates


def _measure(candidates, size, repeats, device) -> list[dict]:
    """Costs and times of each candidate for one random picture of ``size`` (H, W)."""
    inputs = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        rows = [cost_of(candidate, inputs) for candidate in candidates]
        clocks = [BackboneClock(candidate, inputs) for candidate in candidates]
        times = take_turns(clocks, repeats, device)
    rests = [[total - own for total, own in zip(mine, clock.seconds[-repeats:])] for mine, clock in zip(times, clocks)]
    for row, summary, rest in zip(rows, summarise(times), summarise(rests)):
        row.update(summary, rest=rest)
    return rows


def compare_refinement(
    size: Sequence[int] = (375, 500), classes: int = 4, repeats: int = 5, device: str | None = None, seed: int = 0
) -> dict:
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


def check_size(size: Sequence[int]) -> tuple[int, int]:
    """Give ``size`` as a tuple, or raise ``UserError`` if a side is below :data:`MIN_SIDE` pixels."""
    if min(size) < MIN_SIDE:
        raise UserError(f'--size must be at least {MIN_SIDE} pixels on each side, but is {" x ".join(map(str, size))}')
    return tuple(size)


def check_repeats(repeats: int) -> None:
    """Raise ``UserError`` unless ``repeats`` is at least 1."""
    if repeats < 1:
        raise UserError(f'--repeats must be at least 1, but is {repeats}')
