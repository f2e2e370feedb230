"""What the figures of a training say when it learns nothing, and why that probably is."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.runner import Runner
from torch import nn

from csrm_plugin.utils.models import unwrap

#: Scores count as those of chance as long as they are not above it by this share of what is left to 100 %.
MAP_GAIN, MIOU_GAIN = 0.05, 0.01
#: A classifier whose loss has been below this share of chance had learnt something.
LEARNT = 0.8
#: BatchNorm that sees fewer pictures in a step has poor statistics.
FEW_PICTURES = 8
#: Settings of a backbone that name weights to begin with.
_WEIGHT_SETTINGS = ('init_cfg', 'pretrained', 'checkpoint', 'weights')

#: Kinds of findings that two functions of this module share.
BACKGROUND_ONLY = 'the segmentation predicts background only'


@dataclass(frozen=True)
class Circumstances:
    """What is known of a run beside its figures; likely causes are told from it.

    Attributes:
        lr (float | None): The learning rate that the config names.
        from_scratch (bool): Whether the backbone starts from random weights.
        norm_pictures (int | None): Pictures in a step of one process, where the backbone has BatchNorm that takes its
            statistics from them; None where it has none.
        mutual (bool): Whether the model has terms that wait for the end of a warm-up.
        loss_ratio (float | None): ``loss_c`` over what a constant prediction costs, a running mean.
        best_ratio (float | None): The lowest that it has been.
        labelled (float | None): Share of objects in the label maps that the network learns from, in 0..1.
    """

    lr: float | None = None
    from_scratch: bool = False
    norm_pictures: int | None = None
    mutual: bool = False
    loss_ratio: float | None = None
    best_ratio: float | None = None
    labelled: float | None = None


def circumstances_of(runner: Runner) -> Circumstances:
    """What the config and the model of a run tell by themselves."""
    cfg, model = runner.cfg, unwrap(runner.model)
    backbone = getattr(getattr(model, 'student', model), 'backbone', None)
    batch = (cfg.get('train_dataloader') or {}).get('batch_size')
    learns = any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in _parts(backbone))
    started = bool(cfg.get('load_from') or cfg.get('resume'))
    return Circumstances(
        lr=((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr'),
        from_scratch=not started and _is_random(backbone, (cfg.get('model') or {}).get('backbone') or {}),
        norm_pictures=batch if learns else None,
        mutual=hasattr(model, 'warmup_factor'),
    )


def _parts(module):
    return () if module is None else module.modules()


def _is_random(backbone, settings) -> bool:
    """Whether a backbone has no weights to begin with, as far as its settings tell."""
    if backbone is None:
        return False
    if getattr(backbone, 'starts_from_scratch', False):
        return True
    return not any(value for key, value in settings.items() if any(name in key for name in _WEIGHT_SETTINGS))


def likely_cause(known: Circumstances) -> str:
    """One sentence: why a network learns nothing, the most likely cause first, each with its mend."""
    rate = f'`optim_wrapper.optimizer.lr` is {known.lr:g}' if known.lr is not None else '`optim_wrapper.optimizer.lr`'
    causes = [f'the learning rate is too high for this backbone and data ({rate}; try a tenth of it)']
    if known.from_scratch:
        text = 'the backbone starts from random weights and is slow (name pretrained ones: `model.backbone.init_cfg`)'
        # What had learnt already was not held up by its start.
        causes.insert(1 if (known.best_ratio or 1) < LEARNT else 0, text)
    if known.norm_pictures is not None and known.norm_pictures < FEW_PICTURES:
        causes.append(
            f'BatchNorm takes its statistics from {known.norm_pictures} pictures (`train_dataloader.batch_size`, or '
            '`model.backbone.norm_eval=True`)'
        )
    return f'Likely cause: {", or ".join(causes)}.'


def diagnose(
    statistics: Mapping[str, float],
    min_covered: float = 0.05,
    min_foreground: float = 0.01,
    max_chance: float = 0.95,
) -> dict[str, str]:
    """Findings about the statistics of a run.

    Args:
        statistics (dict[str, float]): Shares of pixels in 0..1, as models log them; missing ones are not judged.
        min_covered (float): Least share of pixels with a certain pseudo label, in 0..1.
        min_foreground (float): Least share of foreground among pseudo labels and predictions, in 0..1.
        max_chance (float): Highest contrastive loss in terms of that of equal similarities.

    Returns:
        dict[str, str]: For each finding its kind and one sentence with the likely cause.
    """
    findings = {}
    covered, labelled = statistics.get('reliable/s'), statistics.get('pseudo/foreground')
    predicted = statistics.get('student/foreground')
    if covered is not None and covered < min_covered:
        findings['labels cover almost nothing'] = (
            f'{covered:.1%} of the pixels have a certain pseudo label. Likely cause: `model.pseudo_label.fg_threshold` '
            'is too high, or `model.pseudo_label.bg_threshold` too low, for the CAMs of this network.'
        )
    elif labelled is not None and labelled < min_foreground:
        findings['pseudo labels are background only'] = (
            f'{labelled:.1%} of the pixels have a foreground pseudo label. Likely cause: '
            '`model.pseudo_label.fg_threshold` is too high, or the CAMs are not those of a trained classifier '
            '(`load_from`, or the length of the WarmupHook).'
        )
    elif predicted is not None and predicted < min_foreground:
        although = '' if labelled is None else f' although {labelled:.1%} are labelled so'
        findings[BACKGROUND_ONLY] = (
            f'{predicted:.1%} of the pixels are predicted as foreground{although}. Likely cause: the mutual losses set '
            'in before the segmentation has learnt (lengthen the WarmupHook, in iterations), the learning rate is too '
            'high, or the score of the background where the model has one (`model.test_cfg.threshold`).'
        )
    chance = statistics.get('contrast/chance')
    if chance is not None and chance > max_chance:
        findings['the representation tells nothing apart'] = (
            f'The contrastive loss is {chance:.0%} of what equal similarities give. Likely cause: the learning rate of '
            'the representation branch (`optim_wrapper.paramwise_cfg.custom_keys.representation_head.lr_mult`) or '
            '`model.loss_m.loss_weight` is too high.'
        )
    return findings


def diagnose_loss(loss: float, chance: float, known: Circumstances, max_loss: float = 0.95) -> dict[str, str]:
    """Findings about the classification loss.

    Args:
        loss (float): ``loss_c``, a running mean.
        chance (float): What a constant prediction of the class frequencies costs, see
            :meth:`csrm_plugin.models.losses.MultiLabelSoftMarginLoss.chance`.
        known (Circumstances): Of the run.
        max_loss (float): Highest ratio of the two.

    Returns:
        dict[str, str]: As :func:`diagnose`.
    """
    if chance < 1e-6:
        return {
            'the image-level labels say nothing': (
                'All pictures seen have the same classes, or none at all. Likely cause: the label file is not that of '
                'these pictures; check it with `tools/prepare_data.py check`.'
            )
        }
    if loss <= max_loss * chance:
        return {}
    lost = ''
    if known.best_ratio is not None and known.best_ratio < LEARNT:
        lost = f' It had been down to {known.best_ratio:.0%} of that.'
    text = f'`loss_c` is {loss:.3g}, and always saying how often each class occurs costs {chance:.3g}.{lost}'
    return {'the classifier learns nothing': f'{text} {likely_cause(known)}'}


def diagnose_validation(
    metrics: Mapping[str, float], known: Circumstances, min_foreground: float = 0.01
) -> dict[str, str]:
    """Findings about the scores of a validation.

    Args:
        metrics (dict[str, float]): Of :class:`csrm_plugin.evaluation.WSSSMetric`, in percent; missing ones are not
            judged.
        known (Circumstances): Of the run.
        min_foreground (float): Least share of foreground among predictions, in 0..1.

    Returns:
        dict[str, str]: As :func:`diagnose`. What follows from another finding is left out.
    """
    score, chance = metrics.get('cls/mAP'), metrics.get('cls/chance')
    if None not in (score, chance) and _is_chance(score, chance, MAP_GAIN):
        return {'the classifier tells no classes apart': _blind_classifier(score, chance, known)}
    findings = {}
    score, chance, share = (metrics.get(f'cam/{name}') for name in ('mIoU', 'background_only', 'foreground'))
    if None not in (score, chance) and _is_chance(score, chance, MIOU_GAIN):
        shown = '' if share is None else f', with {share:.1f}% of the pixels as objects'
        findings['the CAMs show nothing'] = (
            f'`cam/mIoU` is {score:.1f} at its best threshold{shown}; background everywhere gets {chance:.1f}. '
            f'{likely_cause(known)}'
        )
    findings.update(_diagnose_segmentation(metrics, known, min_foreground))
    score = metrics.get('affinity/AUC')
    if score is not None and score <= 50.5:
        findings['the affinity tells nothing apart'] = (
            f'`affinity/AUC` is {score:.1f}, and 50 is chance. Likely cause: the weight of its loss '
            '(`model.loss_pixel.loss_weight`) or its learning rate '
            '(`optim_wrapper.paramwise_cfg.custom_keys.affinity_head.lr_mult`) is too low, or its labels cover too '
            'little (`reliable/pairs` in the log).'
        )
    return findings


def _is_chance(score, chance, gain) -> bool:
    return score - chance <= gain * (100 - chance)


def _blind_classifier(score, chance, known) -> str:
    text = f'`cls/mAP` is {score:.1f}, and scores that have nothing to do with the labels get {chance:.1f}.'
    if known.loss_ratio is None or known.loss_ratio > LEARNT:
        return f'{text} {likely_cause(known)}'
    return (
        f'{text} In training it does tell them (`loss_c` is {known.loss_ratio:.0%} of that of a constant prediction). '
        'Likely cause: the statistics of the norm layers (`model.backbone.norm_eval=True`), or labels of the '
        'validation split that are not those of its pictures (`tools/prepare_data.py check`).'
    )


def _diagnose_segmentation(metrics, known, min_foreground) -> dict[str, str]:
    score, chance, share, largest = (
        metrics.get(f'seg/{name}') for name in ('mIoU', 'background_only', 'foreground', 'largest')
    )
    if share is not None and share / 100 < min_foreground:
        if known.mutual:
            return diagnose({'student/foreground': share / 100}, min_foreground=min_foreground)
        text = f'{share:.1f}% of the pixels are predicted as foreground.'
        return {BACKGROUND_ONLY: f'{text} {_segmentation_cause(known)}'}
    if largest is not None and share is not None and largest > 100 * (1 - min_foreground):
        text = f'{largest:.1f}% of the pixels are predicted as the same class, which is not the background.'
        return {'the segmentation predicts one class only': f'{text} {_segmentation_cause(known)}'}
    if None not in (score, chance) and _is_chance(score, chance, MIOU_GAIN):
        text = f'`seg/mIoU` is {score:.1f}, and background everywhere gets {chance:.1f}.'
        return {'the segmentation is no better than background': f'{text} {_segmentation_cause(known)}'}
    return {}


def _segmentation_cause(known) -> str:
    if known.labelled is not None and known.labelled < 0.01:
        return (
            f'Likely cause: {known.labelled:.1%} of the pixels of the label maps that it learns from are objects '
            '(`train_dataloader.dataset.pseudo_label_dir`); look at them, and at the threshold that made them.'
        )
    return likely_cause(known)
