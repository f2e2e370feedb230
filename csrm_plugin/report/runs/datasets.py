"""Which data set a run is of."""

from collections.abc import Sequence

from csrm_plugin.report.runs.run import Run

#: Type of a config's data set -> name of the data set. A folder of the user's own is known by the name of its run.
DATASET_TYPES = {
    'VOC12WSSSDataset': 'voc',
    'COCO14WSSSDataset': 'coco',
    'MSRCDataset': 'msrc',
    'VOCAnimalsDataset': 'voc_animals',
    'SyntheticWSSSDataset': 'demo',
}


def run_dataset(run: Run) -> str | None:
    """Name of a run's data set, one of ``voc coco msrc voc_animals demo``, or None where it is none of ours."""
    known = DATASET_TYPES.get(run.settings.get('train_dataloader.dataset.type'))
    return known or run.card.get('dataset')


def cards_dataset(cards: Sequence[dict]) -> str:
    """Name of the data set of a pipeline's run.

    Args:
        cards (Sequence[dict]): Of its stages, at least one.

    Returns:
        str: ``dataset`` of a card, the data set of a config, or the start of the run's name.
    """
    for card in cards:
        if card.get('dataset'):
            return str(card['dataset'])
    for card in cards:
        settings = (card.get('config') or {}).get('settings') or {}
        for loader in ('train_dataloader', 'test_dataloader'):
            name = DATASET_TYPES.get(settings.get(f'{loader}.dataset.type'))
            if name:
                return name
    return str(cards[0]['run']).split('_')[0]
