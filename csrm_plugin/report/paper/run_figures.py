"""The paper's figures that stand beside the scores of runs."""

from collections.abc import Sequence

from csrm_plugin.report.paper import published
from csrm_plugin.report.paper.table import network_name
from csrm_plugin.report.runs.datasets import run_dataset
from csrm_plugin.report.runs.knowledge import TRUE_MASKS
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.sections.scores import Beside, Figure

#: Losses that the rows of the paper's Table 1 name.
_LOSSES = ('s', 's2c', 'u', 'm')


def figures_beside(runs: Sequence[Run]) -> Beside:
    """What the paper has for each run, and a sentence on it."""
    figures = {run.style: figure for run in runs if (figure := published_figure(run))}
    # A network of the paper has the column, if only with a dash.
    column = bool(figures) or any(run_dataset(run) in published.DATASETS and network_of(run) for run in runs)
    return Beside('Paper' if column else None, figures, _paper_sentence(runs, figures))


def published_figure(run: Run) -> Figure | None:
    """The paper's figure for a run, by what its settings say; None where the paper has none."""
    dataset, settings = run_dataset(run), run.settings
    if dataset not in published.DATASETS or not settings:
        return None
    if network_of(run):
        return _verification_figure(dataset, network_of(run), labels_of(run))
    if dataset != 'voc':
        return None
    row = None
    if settings.get('model.type') == published.CSRM_SETTINGS['model.type']:
        losses = tuple(loss for loss in _LOSSES if f'model.loss_{loss}.type' in settings)
        row = next((row for row in published.TABLE_1 if row['losses'] == losses), None)
    elif settings.get('model.type') in published.CLASSIFIERS:
        row = published.TABLE_2[0]
    return _figure('pseudo/mIoU', row, published.TTA_NOTE) if row else None


def shows_training_labels(run: Run) -> bool:
    """Whether what an old record calls ``pseudo label`` is what the model learnt from, as it is in those of CSRM."""
    return run.settings.get('model.type') == published.CSRM_SETTINGS['model.type']


def network_of(run: Run) -> str | None:
    """The verification network of the paper that a run trains, by the name of its config; else None."""
    network = network_name(run.info.get('config') or '')
    return network if network in published.NETWORKS else None


def labels_of(run: Run) -> str | None:
    """The labels that a verification network of a pipeline learnt from: ``true masks`` or a stage; else None."""
    return (run.card.get('context') or {}).get('labels')


def _verification_figure(dataset, network, labels):
    """The row of the same supervision: F for true masks, I for labels by CSRM; None for others and unknown ones."""
    supervision = 'F' if labels == TRUE_MASKS else 'I' if labels in published.CSRM_LABELS else None
    rows = published.TABLE_3 if dataset == 'voc' else published.TABLE_4
    row = next((row for row in rows if (row['network'], row['supervision']) == (network, supervision)), None)
    trained_on = 'true masks' if supervision == 'F' else 'labels by CSRM'
    note = f'trained on {trained_on}; the paper does not state scales, flip and dCRF'
    return _figure('seg/mIoU', row, note) if row else None


def _lacks_labels(run):
    return run_dataset(run) in published.DATASETS and bool(network_of(run)) and not labels_of(run)


def _figure(metric, row, note):
    scores = {split: row[split] for split in ('train', 'val', 'test') if split in row}
    return Figure(metric, scores, row['source'], note)


def _paper_sentence(runs, figures):
    notes = dict.fromkeys(f'{figure.source}: {figure.note}' for figure in figures.values())
    parts = [f'Paper: DOI {published.DOI}. {". ".join(notes)}.'] if notes else []
    without = [run for run in runs if run.style not in figures]
    if not without:
        return ' '.join(parts)
    if any(not run.settings for run in without):
        parts.append('Without recorded settings it is not known whether the paper has a figure for the run.')
    elif any(run_dataset(run) in published.DATASETS for run in without):
        unknown = [run for run in without if _lacks_labels(run)]
        if unknown:
            parts.append(
                'The figure of a network depends on the labels that it learnt from, which are not known here: '
                f'{", ".join(run.label for run in unknown)}.'
            )
        names = ', '.join(run.label for run in without if run not in unknown)
        if names:
            parts.append(f'No published figure: the paper has none for the settings of {names}.')
    else:
        names = ', '.join(dict.fromkeys(run_dataset(run) or 'this data set' for run in without))
        parts.append(f'No published figure for {names}: the paper reports VOC 2012 and COCO 2014.')
    return ' '.join(parts)
