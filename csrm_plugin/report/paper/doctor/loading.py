"""Reading the two runs that are compared: folders, single stages, cards, or the paper."""

import os.path as osp

from csrm_plugin.experiments.pipeline.cards import CARD, read_card, read_card_file
from csrm_plugin.report.paper import published
from csrm_plugin.report.paper.doctor.baseline import compare_with_baseline
from csrm_plugin.report.runs.datasets import cards_dataset
from csrm_plugin.report.runs.stages import read_stages, sub_folders
from csrm_plugin.utils import UserError

#: What a stage that has begun leaves in its folder before there is a card.
CLAIM = 'key'
#: Kinds of stages that belong to a method.
_METHOD_KINDS = ('train', 'labels', 'refined', 'sepl')


def load_pair(run: str, reference: str | None = None) -> tuple[list[dict], list[dict]]:
    """Read what is to be compared.

    Args:
        run (str): Folder of a run, folder of one of its stages, or a card.
        reference (str, optional): The same, or ``paper``, which is the default where the paper has the data set. Where
            it has not, a run with a plain baseline needs no other reference.

    Returns:
        tuple[list[dict], list[dict]]: Cards of the run and of the reference. Where one side is a single stage, the
        other is that stage alone. No cards of a reference where none is needed.

    Raises:
        UserError: If there is nothing to read, if it cannot be read, or if the two are not of the same data set.
    """
    cards, single = _load(run)
    dataset = cards_dataset(cards)
    if reference is None and dataset not in published.DATASETS and compare_with_baseline(cards)['scores']:
        return cards, []
    if reference in (None, 'paper'):
        others, other_single = _load_paper(cards, dataset, asked=reference is not None), False
    else:
        others, other_single = _load(reference)
        other = cards_dataset(others)
        if other != dataset:
            raise UserError(
                f'`{run}` is of the data set {dataset}, but the reference `{reference}` of {other}: their scores '
                'cannot be compared. Give a run of the same data set.'
            )
    if single and other_single and cards[0]['stage'] != others[0]['stage'] and cards[0]['kind'] == others[0]['kind']:
        others = [{**others[0], 'stage': cards[0]['stage']}]  # two stages of one kind, for example of an ablation
    if single:
        others = _same_stages(others, cards, reference or 'paper')
    if other_single:
        cards = _same_stages(cards, others, run)
    return cards, others


def _load(path):
    """Cards of a run, or the one of a stage; and whether it is one stage."""
    if osp.isfile(path):
        return [read_card_file(path)], True
    cards = list(read_stages(path).values())
    if cards:
        return cards + _interrupted(path, cards), False
    card = read_card(path)
    if card is None:
        raise UserError(
            f'`{path}` holds no {CARD}, nor does one of its sub-folders: give the folder of a run that '
            '`tools/pipeline.py` made'
        )
    return [card], True


def _interrupted(folder, cards):
    """Cards for the stages that have begun but have no card."""
    stages = {card['stage'] for card in cards}
    begun = [place for place in sub_folders(folder) if osp.isfile(osp.join(place, CLAIM))]
    return [
        dict(stage=osp.basename(place), kind='', run=cards[0]['run'], number=0, status='interrupted')
        for place in begun
        if osp.basename(place) not in stages and not osp.exists(osp.join(place, CARD))
    ]


def _load_paper(cards, dataset, asked):
    """The paper as a run."""
    if dataset not in published.DATASETS:
        which = f'the paper has figures for {" and ".join(published.DATASETS)}, not for the data set {dataset}'
        mend = 'give a REFERENCE, that is the folder of another run' + (' instead of `paper`' if asked else '')
        raise UserError(f'{which}: {mend}')
    paper = published.paper_card_run(dataset, _verification_networks(cards))
    known, ours = ({card['stage'] for card in side if card['kind'] in _METHOD_KINDS} for side in (paper, cards))
    if ours and ours.isdisjoint(known):
        raise UserError(
            f"the paper's figures are of {', '.join(sorted(known))}, of which this run has none (it has "
            f'{", ".join(sorted(ours))}): give a REFERENCE, that is the folder of another run'
        )
    return paper


def _verification_networks(cards):
    """Which of the paper's networks each verification stage trains, by the name of its config; None for another."""
    networks = {}
    for card in cards:
        if card['stage'].startswith(('verify_csrm', 'verify_masks')):
            file = osp.basename((card.get('config') or {}).get('file') or '')
            networks[card['stage']] = next((name for name in published.NETWORKS if file.startswith(name)), None)
    return networks


def _same_stages(cards, single, name):
    """Those of ``cards`` that are of the single card's stage."""
    stage = single[0]['stage']
    same = [card for card in cards if card['stage'] == stage]
    if not same:
        raise UserError(f'`{name}` has no stage {stage}; it has {", ".join(card["stage"] for card in cards)}')
    return same
