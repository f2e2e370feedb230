"""Several seeds of one config as a table: mean, standard deviation, and what the numbers stand on."""

import os.path as osp
import statistics
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from csrm_plugin.tracking import record
from csrm_plugin.utils import atomic_write, write_json
from csrm_plugin.utils.label_sources import describe_source
from csrm_plugin.utils.text import whose_weights


def summarise(scores: Mapping[int, Mapping[str, Mapping]]) -> dict:
    """Mean and standard deviation over seeds.

    Args:
        scores (Mapping[int, Mapping[str, Mapping[str, float]]]): For each seed and split the metrics.

    Returns:
        dict[str, dict[str, dict]]: For each split and metric: ``mean``, ``std`` (with n - 1 in the denominator; None
        for one seed) and ``values`` in the order of the seeds. Where a seed lacks the metric its value is None, and
        so are mean and standard deviation.
    """
    runs, result = list(scores.values()), {}
    for split in runs[0]:
        result[split] = {}
        for name in dict.fromkeys(name for run in runs for name in run[split]):
            values = [run[split].get(name) for run in runs]
            whole = None not in values
            result[split][name] = dict(
                mean=statistics.fmean(values) if whole else None,
                std=statistics.stdev(values) if whole and len(values) > 1 else None,
                values=values,
            )
    return result


def write_summary(result: Mapping, folder: str, console: Console) -> None:
    """Write ``repeat.json`` and ``repeat.md``, and print the same.

    Args:
        result (Mapping): ``config``, ``cfg_options``, ``seeds``, ``resumed`` (seeds), ``splits`` (see
            :func:`summarise`) and ``context``: for each split what its scores stand on.
        folder (str): Of the repetition.
        console (rich.console.Console): Where to print.
    """
    path = osp.join(folder, 'repeat.json')
    write_json(path, result)
    with atomic_write(osp.join(folder, 'repeat.md')) as temporary, open(temporary, 'w') as file:
        file.write(markdown(result))
    console.print(table_of(result))
    console.print(footnote(result), highlight=False, soft_wrap=True)
    console.print(f'Written: {path}, repeat.md', highlight=False, soft_wrap=True)


def table_of(result: Mapping) -> Table:
    """The summary as a table for the terminal."""
    table = Table(title=f'{result["config"]}, {len(result["seeds"])} seeds, percent')
    for name, justify in (('metric', 'left'), ('split', 'left'), ('mean ± std', 'right')):
        table.add_column(name, justify=justify)
    for seed in result['seeds']:
        table.add_column(f'seed {seed}', justify='right')
    for row in _rows(result):
        table.add_row(*row)
    return table


def markdown(result: Mapping) -> str:
    """The summary as a Markdown table with what it stands on."""
    head = ['metric', 'split', 'mean ± std', *(f'seed {seed}' for seed in result['seeds'])]
    lines = [f'| {" | ".join(line)} |' for line in [head, ['---'] * len(head), *_rows(result)]]
    options = f' with {" ".join(f"`{item}`" for item in result["cfg_options"])}' if result['cfg_options'] else ''
    return '\n'.join([f'`{result["config"]}`{options}, percent', '', *lines, '', footnote(result), ''])


def _rows(result: Mapping) -> Iterator[list[str]]:
    for split, metrics in result['splits'].items():
        for name in (name for name in record.SCORES if name in metrics):
            entry = metrics[name]
            spread = '' if entry['std'] is None else f' ± {entry["std"]:.2f}'
            mean = '-' if entry['mean'] is None else f'{entry["mean"]:.2f}{spread}'
            yield [name, split, mean, *('-' if value is None else f'{value:.2f}' for value in entry['values'])]


def footnote(result: Mapping) -> str:
    """What the numbers stand on."""
    parts = []
    if len(result['seeds']) > 1:
        seeds = ', '.join(map(str, result['seeds']))
        parts.append(f'± is the standard deviation over the seeds {seeds}, with n - 1 in the denominator')
    parts.append('the last checkpoint of each')
    if result.get('resumed'):
        seeds = ', '.join(map(str, result['resumed']))
        parts.append(f'interrupted and resumed, which changes the numbers a little: {seeds}')
    parts += [f'{split}: {_stands_on(context)}' for split, context in result['context'].items()]
    return '; '.join(parts) + '.'


def _stands_on(context: Mapping) -> str:
    """What the scores of one split stand on."""
    parts = [f'{context["pictures"]} pictures'] if context.get('pictures') else []
    if context.get('scales'):
        flip, crf = ('' if context.get(name) else 'no ' for name in ('flip', 'crf'))
        scales = ' '.join(f'{scale:g}' for scale in context['scales'])
        parts.append(f'scale{"s" if len(context["scales"]) > 1 else ""} {scales}, {flip}flip, {crf}CRF')
    if context.get('weights'):
        parts.append(f'the {whose_weights(context["weights"])}')
    pseudo = context.get('pseudo_label') or {}
    if pseudo.get('source'):
        how = describe_source(pseudo['source'], pseudo.get('threshold'))
        parts.append(f'pseudo labels from the {how}, restricted to the image-level labels')
    if context.get('cam_threshold_chosen_with_masks'):
        parts.append('cam/mIoU at the best threshold of each seed, chosen with the masks')
    return ', '.join(parts)


def headline(scores: Mapping[str, Mapping]) -> str:
    """The scores of one seed in a line: for each split the metrics that reports know."""
    shown = [
        f'{split} {name} {metrics[name]:.1f}'
        for split, metrics in scores.items()
        for name in record.SCORES
        if metrics.get(name) is not None
    ]
    return ', '.join(shown)
