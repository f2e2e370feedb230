"""The audit of the labels of one model, on the pictures of a split that have masks."""

from collections.abc import Sequence

import numpy as np
from mmengine.config import Config

from csrm_plugin.config.load import load_config
from csrm_plugin.inference.audit_labels.counting import count_picture, make_task
from csrm_plugin.inference.audit_labels.network import LabelSource, load_cam_model, settings_in_force
from csrm_plugin.inference.audit_labels.pictures import find_pictures, picture_loader, split_of
from csrm_plugin.inference.audit_labels.recommend import MIN_COVERAGE, cautions, recommend
from csrm_plugin.inference.audit_labels.scores import score_labels
from csrm_plugin.inference.audit_labels.settings import BG_THRESHOLDS, FG_THRESHOLDS, Plan, make_plan
from csrm_plugin.inference.pseudo_labels.make import describe
from csrm_plugin.inference.pseudo_labels.settings import crf_options
from csrm_plugin.models.segmentors.pseudo_labeler import PseudoLabelSettings
from csrm_plugin.utils import IGNORE_INDEX, UserError
from csrm_plugin.utils.processes import available_cores, run_unordered
from csrm_plugin.utils.progress import track


def audit_labels(
    config: str,
    checkpoint: str,
    split: str | None = None,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    fg: Sequence[float] = FG_THRESHOLDS,
    bg: Sequence[float] = BG_THRESHOLDS,
    crf: bool | None = None,
    min_coverage: float = MIN_COVERAGE,
    limit: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    cfg_options: dict | None = None,
) -> dict:
    """Compare the labels that a training would learn from with masks, at many thresholds.

    Labels are made as in the training: CAMs of the config's test size, averaged over scales and flip after ReLU,
    divided by their maximum, of the picture's own classes, at ``model.pseudo_label.stride``, then Eq. 6 of CSRM.

    Args:
        config (str): Config file of a model with CAMs.
        checkpoint (str): Its weights, or those of a classifier that its training would start from.
        split (str, optional): Name of a list in ``ImageSets/Segmentation``; that of the config's test by default.
            Pictures without a mask are left out.
        scales (Sequence[float], optional): Sizes relative to the network's input; default: the config's.
        flip (bool, optional): Whether each is also seen mirrored; default: the config's.
        fg (Sequence[float]): Foreground thresholds, in 0..1.
        bg (Sequence[float]): Background thresholds, in 0..1; those above a foreground threshold do not go with it.
        crf (bool, optional): See :func:`make_plan`.
        min_coverage (float): In percent; see :func:`recommend`.
        limit (int, optional): At most so many pictures, evenly spread over the list.
        workers (int, optional): Processes that refine and count beside the inference. Default: one for each core but
            one, at least 1 and at most 8. 0 does it in this process.
        device (str, optional): Default: CUDA where there is one.
        cfg_options (dict, optional): Overrides of the config.

    Returns:
        dict: ``context``; ``settings``, each with how its labels are made and its scores, see
        :func:`csrm_plugin.inference.audit_labels.scores.score_labels`; ``config``, place of the config's own among
        them, or None; ``recommended``, see :func:`recommend`; ``cautions``. Percent.

    Raises:
        UserError: For what the user can mend.
    """
    if not 0 <= min_coverage <= 100:
        raise UserError(f'--min-coverage must be a percentage from 0 to 100, but is {min_coverage:g}')
    cfg = load_config(config, cfg_options)
    model, weights_from = load_cam_model(cfg, checkpoint, device)
    own = settings_in_force(cfg, model)
    plan = make_plan(own, scales, flip, fg, bg, crf)
    dataset, infos, of_split = find_pictures(cfg, split, limit)
    names = dataset.metainfo['classes']
    matrices, ignored = _count(LabelSource(model, plan.stride), plan, cfg, infos, names, workers)
    counted = matrices[0].sum(axis=1)
    if not counted.sum():
        raise UserError('the masks hold nothing but 255, so no pixel is counted')
    rows = [score_labels(matrix, names) for matrix in matrices]
    context = dict(
        split=split or split_of(cfg),
        pictures=len(infos),
        pictures_of_split=of_split,
        **{key: value for key, value in describe(cfg, checkpoint, model, 'cam').items() if key not in ('amp', 'tile')},
        **({} if weights_from is None else dict(weights_from=weights_from)),
        scales=list(plan.views.scales),
        flip=plan.views.flip,
        fg_thresholds=sorted(set(fg)),
        bg_thresholds=sorted(set(bg)),
        stride=plan.stride,
        **_refinements(plan, own or PseudoLabelSettings()),
        config_exact=plan.exact,
        min_coverage=min_coverage,
        classes=list(names),
        pixels=dict(zip(names, counted.tolist())),
        pixels_ignored=ignored,
        unit='percent',
        chosen_with='ground truth',
    )
    return dict(
        context=context,
        settings=[{**_described(setting), **row} for setting, row in zip(plan.settings, rows)],
        config=None if plan.config is None else plan.settings.index(plan.config),
        recommended=recommend(rows, plan, min_coverage),
        cautions=cautions(len(infos), context['pixels']),
    )


def _count(
    source: LabelSource, plan: Plan, cfg: Config, infos: list[dict], names: Sequence[str], workers: int | None
) -> tuple[np.ndarray, int]:
    """Matrices (S, K, K + 1) of the settings over all pictures, and how many pixels are 255 in the masks."""
    workers = min(max(available_cores() - 1, 1), 8) if workers is None else workers
    total = np.zeros((len(plan.settings), len(names), len(names) + 1), dtype=np.int64)
    ignored = 0

    def tasks():
        """Tasks for the workers; inference happens here, between two of them."""
        nonlocal ignored
        for info, batch in zip(infos, picture_loader(cfg, infos)):
            task = make_task(source, plan, batch)
            _check_truth(task.truth, info['seg_map_path'], len(names))
            ignored += int(np.count_nonzero(task.truth == IGNORE_INDEX))
            yield task

    for classes, matrices in track(run_unordered(count_picture, tasks(), workers), len(infos), 'Audit'):
        total[np.ix_(range(len(total)), classes, [*classes, len(names)])] += matrices
    return total, ignored


def _check_truth(truth, path, num_classes) -> None:
    wrong = truth[(truth >= num_classes) & (truth != IGNORE_INDEX)]
    if wrong.size:
        raise UserError(
            f'mask `{path}` holds class {int(wrong[0])}, but the data set has classes 0 to {num_classes - 1} (and '
            f'{IGNORE_INDEX}); check it with `tools/prepare_data.py check`'
        )


def _described(setting) -> dict:
    """A setting, for JSON."""
    return dict(
        scales=list(setting.views.scales),
        flip=setting.views.flip,
        refine=setting.refine,
        fg_threshold=setting.fg_threshold,
        bg_threshold=setting.bg_threshold,
    )


def _refinements(plan, base) -> dict:
    """Settings of what refines, for the context; False for what takes no part."""
    found = dict(crf=False, par=False)
    if 'crf' in plan.refinements:
        found['crf'] = crf_options({key: value for key, value in (base.crf or {}).items() if key != 'workers'})
    if 'par' in plan.refinements:
        par = plan.refinements['par']
        names = ('dilations', 'iterations', 'bandwidth', 'position_weight')
        found['par'] = {name: getattr(par, name) for name in names}
    return found
