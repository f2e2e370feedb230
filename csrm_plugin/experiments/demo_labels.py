"""Labels of the demo at an equal inference budget: the plain baseline and CSRM, each without and with dCRF."""

import os.path as osp
import shutil
from collections.abc import Mapping, Sequence

from csrm_plugin.config.load import load_config
from csrm_plugin.config.provenance import config_settings
from csrm_plugin.experiments.pipeline.stages.base import CONTEXT, CURVE
from csrm_plugin.inference.evaluate_labels import evaluate_label_folder
from csrm_plugin.inference.pseudo_labels import make_pseudo_labels
from csrm_plugin.tracking.record import update_cost
from csrm_plugin.utils import write_json

#: Views of both. One scale: the objects are drawn in one size, and the networks have seen no other.
VIEWS = dict(scales=(1.0,), flip=True)
#: Split whose masks choose the threshold of the plain baseline.
CHOICE_SPLIT = 'val'


class Trained:
    """A model of the demo.

    Args:
        config (str): Its config file.
        checkpoint (str): Its weights.
        options (dict): Overrides of the config that say where the data are.
    """

    def __init__(self, config: str, checkpoint: str, options: dict) -> None:
        self.config, self.checkpoint, self.options = config, checkpoint, options
        cfg = load_config(config, options)
        dataset = cfg.test_dataloader.dataset
        self.settings = config_settings(cfg)
        self.masks = osp.join(dataset.data_root, 'SegmentationClass')
        self.lists = osp.join(dataset.data_root, 'ImageSets', 'Segmentation')

    def make(self, out: str, split: str, **given: object) -> None:
        """Label maps of a split; see :func:`csrm_plugin.inference.pseudo_labels.make_pseudo_labels`."""
        settings = {**VIEWS, **given.pop('settings')}
        make_pseudo_labels(self.config, self.checkpoint, out, split, settings, self.options, **given)

    def score(self, folder: str, split: str, **given: object) -> dict:
        """Scores of label maps; see :func:`csrm_plugin.inference.evaluate_labels.evaluate_label_folder`."""
        return evaluate_label_folder(folder, self.masks, osp.join(self.lists, f'{split}.txt'), **given)


def label_cards(classifier: Trained, csrm: Trained, splits: Sequence[str], folder: str, seed: int) -> list[dict]:
    """Make and score the labels of both models.

    Args:
        classifier (Trained): Its CAMs are the plain baseline, at the threshold that is best on :data:`CHOICE_SPLIT`.
        csrm (Trained): Its labels are from the segmentation.
        splits (Sequence[str]): To label and score.
        folder (str): Gets a folder for each; what an earlier call left there is removed.
        seed (int): Of the trainings.

    Returns:
        list[dict]: Cards of the two trainings and of the four kinds of label maps, as those of a pipeline's stages.
    """
    shutil.rmtree(folder, ignore_errors=True)
    cams, curve = osp.join(folder, 'choice'), osp.join(folder, f'threshold_{CHOICE_SPLIT}.json')
    classifier.make(cams, CHOICE_SPLIT, settings=dict(source='cam', threshold=0.5), save_cams=True)
    report = classifier.score(cams, CHOICE_SPLIT, thresholds=CURVE)
    write_json(curve, report)
    shutil.rmtree(cams)
    best = report['best']
    choice = dict(split=CHOICE_SPLIT, threshold=best['threshold'], miou=best['miou'], curve=report['curve'])
    choice['pictures'] = report['context']['pictures']
    cards = [_card('classifier', 'train', classifier), _card('csrm', 'train', csrm, ['classifier'])]
    for name, model, settings in (
        ('cam', classifier, dict(source='cam', threshold_from=curve)),
        ('csrm', csrm, dict(source='seg')),
    ):
        places = {crf: osp.join(folder, f'{name}_crf' if crf else name) for crf in (False, True)}
        for split in splits:
            out, refined = (osp.join(places[crf], split) for crf in (False, True))
            model.make(out, split, settings=settings, crf_out=refined)
        made_by = cards[0 if model is classifier else 1]['stage']
        for crf, (kind, stage, before) in enumerate(
            (('labels', f'labels_{name}', made_by), ('refined', f'labels_{name}_crf', f'labels_{name}'))
        ):
            scored = {split: model.score(osp.join(places[bool(crf)], split), split) for split in splits}
            cards.append({**_card(stage, kind, model, [before]), **_scores(scored)})
    cards[2]['choice'] = choice
    return [{**card, 'number': number, 'seed': seed} for number, card in enumerate(cards, start=1)]


def baseline_verdict(cards: Sequence[Mapping], split: str = 'train') -> str:
    """One sentence on whether CSRM's labels with dCRF are better than the plain baseline.

    Args:
        cards (list[dict]): From :func:`label_cards`.
        split (str): Whose labels.
    """
    scores = {card['stage']: card.get('scores') for card in cards}
    before, after = (scores[stage][split]['miou'] for stage in ('labels_cam_crf', 'labels_csrm_crf'))
    text = f'Labels for {split} at an equal budget (flip, dCRF), mIoU: {before:.1f} by the plain baseline, '
    times = f'{after / max(before, 1e-6):.2f} times as much' if after > before else 'not above it'
    return f'{text}{after:.1f} by CSRM, {times}.'


def _card(stage, kind, model, inputs=()) -> dict:
    config = dict(file=model.config, settings=model.settings)
    card = dict(stage=stage, kind=kind, run='demo', dataset='demo', status='done', config=config)
    if kind == 'train':
        card['time'] = dict(update=update_cost(osp.dirname(model.checkpoint)))
    return {**card, 'inputs': dict.fromkeys(inputs), 'context': {}}


def _scores(reports) -> dict:
    """``scores`` and ``context`` of a card, from the reports of its splits."""
    context = next(iter(reports.values()))['context']
    scores = {split: {key: report[key] for key in ('miou', 'fp', 'fn')} for split, report in reports.items()}
    return dict(scores=scores, context={key: value for key, value in context.items() if key in CONTEXT})
