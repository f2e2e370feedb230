"""A report as a table and lines of text."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from csrm_plugin.utils.text import cell


def print_report(report: dict, console: Console) -> None:
    """Print what :func:`evaluate_label_folder` found: a table of classes, what it stands on, and the curve."""
    console.print(_class_table(report))
    for line in _context_lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if 'curve' in report:
        console.print(_curve_table(report))
        for line in _curve_lines(report):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _class_table(report):
    table = Table()
    table.add_column('class, percent')
    columns = dict(IoU='iou', precision='precision', recall='recall', FP='fp_by_class', FN='fn_by_class')
    for title in columns:
        table.add_column(title, justify='right')
    for name in report['context']['classes']:
        table.add_row(escape(name), *(cell(report[key][name]) for key in columns.values()))
    table.add_section()
    for name, end in (('mean', ''), ('mean without background', '_foreground')):
        table.add_row(name, cell(report[f'miou{end}']), '', '', cell(report[f'fp{end}']), cell(report[f'fn{end}']))
    return table


def _context_lines(report):
    context, pixels = report['context'], report['pixels']
    yield f'mIoU {cell(report["miou"])} % ({context["scores_of"]})'
    yield f'split: {context["split"]} ({context["split_file"]}), {context["pictures"]} pictures'
    yield f'predictions: {context["pred_dir"]}; masks: {context["gt_dir"]}'
    chosen = context.get('threshold_chosen_with')
    threshold = _said(context['threshold']) + (f' (from {chosen})' if chosen else '')
    if context.get('threshold_chosen_on'):
        threshold += f' (chosen with the masks of {context["threshold_chosen_on"]})'
    yield (
        f'source: {_said(context["source"])}, scales: {_said(context["scales"])}, flip: {_said(context["flip"])}, '
        f'CRF: {_said(context["crf"])}, threshold: {threshold}, weights: {_said(context["weights"])}'
    )
    if context['segmentation']:
        yield f'segmentation: {context["segmentation"]}'
    if context['sepl']:
        yield f'SEPL: {context["sepl"]}'
    yield f'config: {_said(context["config"])}, checkpoint: {_said(context["checkpoint"])}'
    yield (
        f'pixels: {pixels["counted"]} counted, {pixels["ignored"]} with truth 255 ignored, foreground '
        f'{cell(pixels["foreground_predicted"])} % predicted, {cell(pixels["foreground_truth"])} % true'
    )
    if pixels['uncertain']:
        yield (
            f'uncertain (255): {pixels["uncertain"]} pixels, counted as misses; coverage '
            f'{cell(report["coverage"])} %, mIoU over the certain pixels {cell(report["miou_certain"])} %'
        )


def _curve_table(report):
    table = Table()
    for title in ('threshold of the CAMs', 'mIoU', 'FP', 'FN'):
        table.add_column(title, justify='right')
    for point in report['curve']:
        table.add_row(f'{point["threshold"]:g}', *(cell(point[key]) for key in ('miou', 'fp', 'fn')))
    return table


def _curve_lines(report):
    best, fixed = report['best'], report['fixed']
    yield 'curve: CAMs of the classes that are saved, without CRF; percent'
    yield (
        f'best threshold {best["threshold"]:g}: mIoU {cell(best["miou"])} %. It was chosen with the ground truth, and '
        'is not a result that one could have had without masks.'
    )
    if fixed is None:
        yield 'No threshold was fixed beforehand; --threshold gives one.'
    else:
        yield f'fixed threshold {fixed["threshold"]:g} (from {fixed["chosen_with"]}): mIoU {cell(fixed["miou"])} %'


def _said(value):
    if value is None:
        return 'not known'
    return ('no', 'yes')[value] if isinstance(value, bool) else str(value)
