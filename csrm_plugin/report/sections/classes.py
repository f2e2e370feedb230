"""IoU of each class."""

from collections.abc import Sequence

from csrm_plugin.report.charts import Series, bar_chart
from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import number, percent
from csrm_plugin.report.page.markup import Ids, details, table, tag
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.validations import split_of
from csrm_plugin.report.sections.curves import legend

_TITLES = {'seg': 'Segmentation', 'pseudo': 'Pseudo labels', 'cam': 'CAM at its best threshold'}


def class_section(ids: Ids, runs: Sequence[Run]) -> layout.Section:
    """Bars of the IoU per class, runs side by side; parts but the first are folded away."""
    found = {run.style: source for run in runs if (source := _source(run))}
    runs = [run for run in runs if run.style in found]
    parts = list(dict.fromkeys(part for ious, _ in found.values() for part in ious))
    content = []
    for part in sorted(parts, key=lambda part: list(_TITLES).index(part) if part in _TITLES else len(_TITLES)):
        shown = [run for run in runs if part in found[run.style][0]]
        figure = _part(ids, part, shown, found)
        content.append(figure if not content else details(f'{_TITLES.get(part, part)}: IoU per class', figure))
    if not content:
        return layout.Section('IoU per class', [])
    text = 'In percent. A class that is neither in the masks nor predicted is absent.'
    return layout.Section('IoU per class', [tag('p', text), legend(runs), *content])


def _source(run):
    """IoU of the classes by part, and where they are from: the last validation, else a file of ``tools/test.py``."""
    for item in reversed(run.validations):
        ious = {part: found['iou'] for part, found in item['parts'].items() if (found or {}).get('iou')}
        if ious:
            split = item['context'].get('split') or 'split not recorded'
            return ious, f'{split}, iteration {number(item["iteration"])}'
    for name, test in reversed(run.tests):
        ious = {part: found['iou'] for part, found in test.items() if isinstance(found, dict) and found.get('iou')}
        if ious:
            return ious, f'{split_of(test["context"])}, tools/test.py ({name})'
    return None


def _part(ids, part, runs, found):
    ious = {run.style: found[run.style][0][part] for run in runs}
    names = list(dict.fromkeys(name for run in runs for name in ious[run.style]))
    title = _TITLES.get(part, part)
    series = [Series(run.label, names, [ious[run.style].get(name) for name in names], run.style) for run in runs]
    places = '. '.join(f'{run.label}: {found[run.style][1]}' for run in runs)
    rows = [[name, *(percent(ious[run.style].get(name), 'absent') for run in runs)] for name in names]
    numbers = table(['Class', *(run.label for run in runs)], rows, f'{title}: IoU in percent', range(1, len(runs) + 1))
    chart = bar_chart(ids, names, series, f'{title}: IoU per class', '%')
    caption = tag('figcaption', places, '.', details('As numbers', numbers))
    return tag('figure', tag('h3', title), chart, caption, cls='medium')
