"""An audit as a picture."""

import os

from csrm_plugin.inference.audit_labels.printing import describe_setting
from csrm_plugin.inference.audit_labels.settings import TITLES, Views
from csrm_plugin.visualization.coverage import save_coverage_plot


def plot_audit(path: str | os.PathLike, report: dict) -> None:
    """Draw mIoU over coverage, a column for each refinement.

    Args:
        path (str): The file to write.
        report (dict): From :func:`csrm_plugin.inference.audit_labels.audit_labels`.
    """
    context, rows = report['context'], report['settings']
    asked = [row for row in rows if (row['scales'], row['flip']) == (context['scales'], context['flip'])]
    refines = list(dict.fromkeys(row['refine'] for row in asked))
    panels = [
        dict(title=_title(refine), points=[point(row) for row in asked if row['refine'] == refine])
        for refine in refines
    ]
    marks = []
    for rank, choice in enumerate(report['recommended']):
        row = rows[choice['setting']]
        text = f'{"recommended" if rank == 0 else "best here"}: {row["fg_threshold"]:g} / {row["bg_threshold"]:g}'
        marks.append(dict(point(row), panel=refines.index(row['refine']), label=text, marker='*'))
    if report['config'] is not None:
        row = rows[report['config']]
        # A refinement that no other row has is drawn beside the last.
        panel = refines.index(row['refine']) if row['refine'] in refines else len(panels) - 1
        marks.append(dict(point(row), panel=panel, label=f"config's: {describe_setting(row)}", marker='s'))
    views = Views(tuple(context['scales']), context['flip']).title()
    title = (
        f'{context["config"]}, {context["checkpoint"]}: labels against the masks of {context["pictures"]} pictures of '
        f'{context["split"]}\nCAMs of {views}; beside the points: bg; dotted: least coverage; legend: precision and '
        'recall of foreground'
    )
    save_coverage_plot(path, panels, context['min_coverage'], title, marks)


def point(row: dict) -> dict:
    """What the plot needs of a setting."""
    return dict(
        fg=row['fg_threshold'],
        bg=row['bg_threshold'],
        coverage=row['coverage'],
        miou=row['miou'],
        precision=row['foreground']['precision'],
        recall=row['foreground']['recall'],
    )


def _title(refine) -> str:
    return 'without refinement' if refine == 'none' else f'with {TITLES[refine]}'
