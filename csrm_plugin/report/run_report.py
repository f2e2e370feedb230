"""The report of a run, or of several side by side."""

import os
import os.path as osp
from collections.abc import Sequence

from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import count, duration, is_number, number
from csrm_plugin.report.page.markup import Html, Ids, join, tag
from csrm_plugin.report.paper.run_figures import figures_beside, shows_training_labels
from csrm_plugin.report.paper.table_page import table_section
from csrm_plugin.report.pipeline_report import pipeline_cards, pipeline_sections
from csrm_plugin.report.runs.datasets import run_dataset
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.sources import Group, is_sweep, load_runs
from csrm_plugin.report.sections import costs
from csrm_plugin.report.sections.classes import class_section
from csrm_plugin.report.sections.curves import curve_section, threshold_section
from csrm_plugin.report.sections.pictures import picture_section, sample_section, sheet_section
from csrm_plugin.report.sections.scores import key_numbers, score_section
from csrm_plugin.report.sections.settings import settings_section, versions_section
from csrm_plugin.report.sections.stages import lead, stage_notices
from csrm_plugin.report.sweep_report import write_sweep_report
from csrm_plugin.utils import UserError
from csrm_plugin.utils.text import whose_weights

#: Parts of a validation's context that must agree, if scores are to be compared.
_PROTOCOL = ('split', 'ann_file', 'pictures', 'scales', 'flip', 'crf', 'pseudo_label', 'segmentation')


def write_report(
    work_dirs: str | os.PathLike | Sequence[str | os.PathLike], out: str | os.PathLike | None = None
) -> str:
    """Write the report of runs as one HTML file that needs nothing else.

    Args:
        work_dirs (str | Sequence[str]): Work directories of trainings, pipelines, or folders whose direct sub-folders
            are work directories; or one folder of a sweep.
        out (str, optional): The file; ``report.html`` in the first folder by default.

    Returns:
        str: Path of the file.

    Raises:
        MissingFileError: If a folder is not there or holds nothing to report.
        UserError: If a file of a record is broken.
    """
    folders = [work_dirs] if isinstance(work_dirs, (str, os.PathLike)) else list(work_dirs)
    if not folders:
        raise UserError('give at least one work directory')
    if len(folders) == 1 and is_sweep(folders[0]):
        return write_sweep_report(folders[0], out)
    runs, groups = load_runs(folders)
    ids = Ids()
    pipelines = [group for group in groups if group.cards]
    intro = [layout.warnings(notices(runs, groups)), _cards(runs, pipelines, len(folders) == 1)]
    sections = [section for group in pipelines for section in pipeline_sections(ids, group, len(folders) > 1)]
    sections += [table_section(group) for group in groups if group.table and not group.cards]
    if runs:
        sections += run_sections(ids, runs)
    sections += [sheet_section(group) for group in groups]
    text = layout.render(ids, *_head(runs, groups, folders), intro, sections)
    return layout.write(out or osp.join(folders[0], layout.REPORT), text)


def run_sections(ids: Ids, runs: Sequence[Run]) -> list[layout.Section]:
    """All that is told about runs."""
    return [
        score_section(runs, figures_beside(runs)),
        settings_section(runs),
        curve_section(ids, runs),
        threshold_section(ids, runs),
        class_section(ids, runs),
        picture_section(ids, runs, shows_training_labels),
        sample_section(ids, runs),
        costs.cost_section(runs),
        versions_section(runs),
    ]


def notices(runs: Sequence[Run], groups: Sequence[Group] = ()) -> list[str | Html]:
    """What a reader must know before the numbers: runs that are not finished, failed, not recorded, not comparable."""
    lines = [line for run in runs for line in _run_notices(run)]
    without = ', '.join(run.label for run in runs if not run.record.run)
    if without:
        lines.append(
            f'No record of {without}, only the log: settings, cost, scores per class and pictures may be missing.'
        )
    for key in _PROTOCOL:
        values = {repr(run.validations[-1]['context'].get(key)) for run in runs if _context(run)}
        if len(values) > 1:
            lines.append(f'The scores of these runs are not alike: their validations differ in `{key}`.')
    lines += [line for group in groups if group.cards for line in stage_notices(group)]
    return [_marked(line) for line in lines]


def _context(run):
    return run.validations[-1]['context'] if run.validations else {}


def _run_notices(run):
    info, lines = run.info, []
    status = info.get('status')
    if status == 'failed':
        lines.append(f'{run.label} failed at {_progress(run)}: {info.get("reason") or "no reason recorded"}.')
    elif status == 'running':
        lines.append(f'{run.label} is not finished ({_progress(run)}): it is under way, or was killed.')
    for key in sorted({key for line in run.record.train for key in line}):
        first = next((line['step'] for line in run.record.train if key in line and _is_broken(line[key])), None)
        if first is not None:
            lines.append(f'{run.label}: `{key}` is not a finite number at iteration {number(first)}.')
    metrics = run.validations[-1]['metrics'] if run.validations else {}
    if metrics.get('seg/foreground') == 0:
        lines.append(f'{run.label}: at the last validation the segmentation is background only.')
    lines += [_alarm(run, alarm) for alarm in info.get('alarms') or ()]
    lines += _weight_changes(run)
    if not run.validations:
        lines.append(f'{run.label}: no validation was logged.')
    return lines


def _alarm(run, alarm):
    """One line for an alarm that the training raised."""
    since, last = number(alarm.get('first')), number(alarm.get('last'))
    holds = {True: f'since iteration {since} and at the end', False: f'at iteration {since}, but not at the end'}
    when = holds.get(alarm.get('at_end'), f'since iteration {since}, last said at iteration {last}')
    return f'{run.label}: collapse alarm {when}: {alarm.get("kind")}. {alarm.get("text")}'


def _weight_changes(run):
    """Which network the validations measure, if it is not the same one in all."""
    seen = [(str(item['context'].get('weights')), item['iteration']) for item in run.validations if item['context']]
    last = dict(seen)
    if len(last) < 2:
        return []
    parts = [f'{whose_weights(weights)} up to iteration {number(step)}' for weights, step in last.items()]
    return [f'{run.label}: not all validations are of the same network: {", then ".join(parts)}.']


def _is_broken(value):
    return isinstance(value, float) and not is_number(value)


def _progress(run):
    total = run.info.get('iterations')
    text = f'iteration {number(run.iteration)}'
    return f'{text} of {number(total)}' if is_number(total) else text


def _marked(line):
    """Text between backticks as code."""
    parts = line.split('`')
    if len(parts) % 2 == 0:
        return line
    return join(*(tag('code', part) if index % 2 else part for index, part in enumerate(parts)))


def _cards(runs, pipelines, alone):
    # Beside other runs, a pipeline's numbers are in its sections, which name it.
    if pipelines and alone:
        cards = [card for group in pipelines for card in pipeline_cards(group)]
    else:
        cards = [*key_numbers(runs), costs.cost_card(runs)]
    return tag('div', cards, cls='cards') if any(cards) else None


def _head(runs, groups, folders):
    """Kind of report, title and first sentence."""
    if len(groups) == len(folders) == 1 and groups[0].cards:
        return 'Pipeline report', osp.basename(osp.abspath(folders[0])), lead(groups[0], runs)
    if len(runs) == len(folders) == 1:
        return 'Run report', _title(runs[0]), _lead(runs[0])
    names = ', '.join(run.label for run in runs)
    what = groups[0].folder if len(groups) == 1 == len(folders) else None
    sets = ', '.join(dict.fromkeys(run_dataset(run) or 'unknown' for run in runs))
    text = f'{names}. Data set: {sets}.' if runs else ''
    pipelines = [osp.basename(osp.abspath(group.folder)) for group in groups if group.cards]
    if pipelines:
        text = f'{text} With the pipeline{"s" if len(pipelines) > 1 else ""} {", ".join(pipelines)}.'
    beside = f'{count(len(runs), "run")} side by side'
    return beside if what else 'Comparison', osp.basename(osp.abspath(what)) if what else beside, text.strip()


def _title(run):
    return str(run.info.get('name') or run.label)


def _lead(run):
    info, parts = run.info, []
    status = info.get('status') or 'state not recorded'
    total, epochs = info.get('iterations'), info.get('epochs')
    text = f'Status: {status}, {number(run.iteration)}'
    text += f' of {number(total)} iterations' if is_number(total) else ' iterations'
    parts.append(text + (f' ({count(epochs, "epoch")})' if is_number(epochs) else ''))
    cost = info.get('cost') or {}
    if is_number(cost.get('seconds')):
        until = f' {costs.part_of(run)}' if costs.part_of(run) else ''
        parts.append(f'{duration(cost["seconds"])}{until} on {cost.get("device") or "an unknown device"}')
    dataset = run_dataset(run)
    parts += [f'data set {dataset}'] if dataset else []
    parts += [f'seed {run.seed}'] if run.seed is not None else []
    config = info.get('config')
    return join(', '.join(parts), '. ', join('Config ', tag('code', config), '.') if config else None)
