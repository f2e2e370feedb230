"""The table of a run, as Table 2 of CSRM: pseudo labels with and without each refinement, and networks on them."""

import os
import os.path as osp
from collections.abc import Sequence
from types import SimpleNamespace

from csrm_plugin.experiments.pipeline.cards import SUMMARY, read_card
from csrm_plugin.experiments.pipeline.recipes import Recipe
from csrm_plugin.report.paper import published
from csrm_plugin.report.paper.baseline import (
    add_label_gains,
    add_network_gains,
    baseline_notes,
    name_origins,
    origin_of,
)
from csrm_plugin.report.paper.table_text import MEND, table_markdown
from csrm_plugin.report.runs.knowledge import knowledge_of
from csrm_plugin.tracking.record import read_json
from csrm_plugin.utils import MissingFileError, UserError, atomic_write, write_json

#: Kinds of stages that make label maps.
LABEL_KINDS = ('labels', 'refined', 'sepl')
#: Entries of a card's context that stand beside a row.
CONTEXT = (
    'source',
    'scales',
    'flip',
    'crf',
    'threshold',
    'threshold_chosen_on',
    'own_views',
    'weights',
    'segmentation',
    'restricted',
    'sepl',
    'tiled_pictures',
)


def write_table(run_folder: str | os.PathLike, out: str | os.PathLike) -> dict:
    """Write the table of a pipeline's run as ``table.json`` and ``table.md``.

    Args:
        run_folder (str): Folder of the run, with ``pipeline.json``, which names the stages that count.
        out (str): Folder of the two files.

    Returns:
        dict: See :func:`table_rows`.

    Raises:
        MissingFileError: If it is no folder of a pipeline's run.
        UserError: If ``pipeline.json`` is broken, or a stage that counts has no card.
    """
    path = osp.join(run_folder, SUMMARY)
    if not osp.isfile(path):
        raise MissingFileError(f'`{run_folder}` is no run of tools/pipeline.py: it has no {SUMMARY}')
    run = read_json(path, MEND)
    lacks = [name for name in ('name', 'dataset', 'seed', 'splits', 'stages') if name not in run]
    if lacks:
        raise UserError(f'`{path}` lacks `{lacks[0]}`; remove it, or {MEND}')
    cards = {stage: read_card(osp.join(run_folder, stage)) for stage in run['stages']}
    gone = [stage for stage, card in cards.items() if card is None]
    if gone:
        raise UserError(f'`{run_folder}`: the stage {gone[0]} has no card; {MEND}')
    table = table_rows(SimpleNamespace(**run), list(cards.values()))
    _write_files(table, out)
    return table


def write_cards_table(cards: Sequence[dict], out: str | os.PathLike) -> dict:
    """Write the table of cards that are of no pipeline, such as those of the demo, as :func:`write_table` does.

    Args:
        cards (list[dict]): Some of label maps among them.
        out (str): Folder of the two files.

    Returns:
        dict: See :func:`table_rows`.
    """
    table = table_of_cards(cards)
    _write_files(table, out)
    return table


def _write_files(table, out):
    write_json(osp.join(out, 'table.json'), table)
    with atomic_write(osp.join(out, 'table.md')) as temporary, open(temporary, 'w') as file:
        file.write(table_markdown(table))


def table_rows(recipe: Recipe | SimpleNamespace, cards: Sequence[dict]) -> dict:
    """Collect the table from the cards of a run: a row for each stage that made label maps or learnt from them.

    Args:
        recipe (Recipe): The pipeline, or anything with its ``name``, ``dataset``, ``seed`` and ``splits``.
        cards (list[dict]): Of the stages that are done.

    Returns:
        dict: ``run``, ``dataset``, ``seed``, ``splits``, ``labels`` (rows), ``verification`` (rows), ``notes``.
        Scores are mIoU in percent. Each row has ``baseline``, ``gain`` and ``over`` (see
        :mod:`csrm_plugin.report.paper.baseline`) ``knowledge`` (see :mod:`csrm_plugin.report.runs.knowledge`)
        and ``update``, the ``seconds`` and ``pictures`` of one update of the training that it stands on, or None.
    """
    by_stage = {card['stage']: card for card in cards}
    paper = paper_rows(recipe.dataset)
    made = [card for card in cards if card['kind'] in LABEL_KINDS and card.get('scores')]
    # Labels of one origin stand together, as they are refined.
    made.sort(key=lambda card: (_label_chain(card, by_stage)[-1]['number'], card['number']))
    labels = [_label_row(card, by_stage, recipe.splits, paper.get(card['stage'])) for card in made]
    name_origins(labels, [origin_of(_label_chain(card, by_stage)[-1]) for card in made])
    add_label_gains(labels)
    networks = [card for card in cards if card['kind'] == 'verify']
    verification = [_verification_row(card, by_stage, paper) for card in networks]
    add_network_gains(verification, labels)
    return dict(
        run=recipe.name,
        dataset=recipe.dataset,
        seed=recipe.seed,
        splits=list(recipe.splits),
        labels=labels,
        verification=verification,
        notes=_notes(recipe, by_stage, labels, verification),
    )


def table_of_cards(cards: Sequence[dict]) -> dict | None:
    """:func:`table_rows` of the cards of a run that may not have finished; None where nothing made label maps.

    Args:
        cards (list[dict]): All that there are; those that cannot be a row are passed over.
    """
    done = [card for card in cards if card['status'] == 'done']
    scored = [card for card in done if card.get('scores') and card.get('context')]
    splits = dict.fromkeys(split for card in scored if card['kind'] in LABEL_KINDS for split in card['scores'])
    if not splits:
        return None
    first = scored[0]
    recipe = SimpleNamespace(
        name=first['run'], dataset=first.get('dataset'), seed=first.get('seed'), splits=tuple(splits)
    )
    return table_rows(recipe, [card for card in done if _may_be_told(card, splits)])


def _may_be_told(card, splits):
    """Whether a card that counts as a row has all that a row needs; the others may stand behind one."""
    scores, context = card.get('scores') or {}, card.get('context') or {}
    if card['kind'] in LABEL_KINDS:
        return bool(context) and all('miou' in (scores.get(split) or ()) for split in splits)
    if card['kind'] == 'verify':
        return len(scores) == 1 and 'labels' in context and bool((card.get('config') or {}).get('file'))
    return True


def paper_rows(dataset: str | None) -> dict[str, dict]:
    """The paper's scores by stage: ``{split: {metric: percent}}``; empty for a data set that it has no figures for."""
    if dataset not in published.DATASETS:
        return {}
    return {card['stage']: card['scores'] for card in published.paper_card_run(dataset) if card.get('scores')}


def _label_chain(card, by_stage) -> list[dict]:
    """The card of label maps, that of those it refines, and so on to the ones that a model made."""
    chain = [card]
    while True:
        inputs = [by_stage[name] for name in chain[-1].get('inputs') or () if name in by_stage]
        before = [link for link in inputs if link['kind'] in LABEL_KINDS]
        if not before:
            return chain
        chain.append(before[0])


def _label_row(card, by_stage, splits, paper):
    chain, context = _label_chain(card, by_stage), card['context']
    kinds = {link['kind'] for link in chain}
    return dict(
        stage=card['stage'],
        dcrf='refined' in kinds or bool(context.get('crf')),
        sepl='sepl' in kinds or bool(context.get('sepl')),
        scores={split: card['scores'][split]['miou'] for split in splits},
        best={
            split: {key: card['scores'][split].get(f'best_{key}') for key in ('miou', 'threshold')}
            for split in splits
            if 'best_miou' in card['scores'][split]
        },
        paper={split: (paper or {}).get(split, {}).get('miou') for split in splits},
        context={key: context.get(key) for key in CONTEXT},
        knowledge=knowledge_of(card, by_stage),
        update=_update_of(chain[-1], by_stage),
    )


def _update_of(card, by_stage) -> dict | None:
    """What an update of the training cost that a row stands on: its own, or that of the model that made the labels."""
    before = [by_stage[name] for name in card.get('inputs') or () if name in by_stage]
    trained = [card] if card['kind'] == 'verify' else [other for other in before if other['kind'] == 'train']
    return ((trained[0].get('time') or {}).get('update') or None) if trained else None


def _verification_row(card, by_stage, paper):
    ((split, scores),) = card['scores'].items()
    config = card['config']
    return dict(
        stage=card['stage'],
        network=network_name(config['file']),
        config=osp.basename(config['file']),
        labels=card['context']['labels'],
        split=split,
        scores=scores,
        paper=(paper.get(card['stage']) or {}).get(split, {}),
        context={key: card['context'].get(key) for key in ('scales', 'flip', 'crf')},
        knowledge=knowledge_of(card, by_stage),
        update=_update_of(card, by_stage),
    )


def network_name(config: str) -> str:
    """``deeplabv2`` from ``mmcfg/deeplabv2_r101_voc_pseudo.py``."""
    return config.rsplit('/', 1)[-1].split('_', 1)[0]


def _notes(recipe, by_stage, labels, verification):
    choices = {stage: card['choice'] for stage, card in by_stage.items() if card.get('choice')}
    notes = [
        f'Data set {recipe.dataset}, seed {recipe.seed}. mIoU in percent over all classes and the background, each row '
        'at one threshold. Label maps of every split are restricted to the image-level labels.',
        *baseline_notes(labels, choices),
    ]
    if any(row['best'] for row in labels):
        notes.append(
            'A best threshold in brackets was chosen with the masks of its own split, of CAMs without dCRF: it stands '
            'for comparison only.'
        )
    masks = next((card for card in by_stage.values() if card['kind'] == 'masks'), None)
    if masks is not None and masks['context'].get('masks') == 'superpixels':
        notes.append('SEPL rows: masks are superpixels, not SAM: they show the mechanism, not what SEPL can do.')
    random = {
        stage: card['context']['random_weights']
        for stage, card in by_stage.items()
        if card.get('context', {}).get('random_weights')
    }
    for stage, names in random.items():
        notes.append(f'{stage}: {", ".join(names)} started with random weights, for no pretrained ones were found.')
    if verification:
        notes.append(
            'Verification: networks trained on the label maps of the training split and scored on '
            f'{recipe.splits[-1]}, no labels given. The row on true masks is fully supervised: the upper bound.'
        )
    if any(value is not None for row in labels for value in row['paper'].values()) or any(
        row['paper'] for row in verification
    ):
        notes.append(f'Paper: DOI {published.DOI}.')
    return notes
