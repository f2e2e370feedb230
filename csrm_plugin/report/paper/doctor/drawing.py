"""What was found, as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from csrm_plugin.report.paper.doctor.comparison import is_off
from csrm_plugin.report.paper.doctor.parts import differing_parts
from csrm_plugin.report.paper.doctor.words import SHOWN_SETTINGS, number, setting_line, signed, tell


def draw_findings(findings: Sequence[dict]) -> Table:
    """A table for the terminal: stage, what differs, scores in percent and their differences in points."""
    table = Table(show_lines=True)
    for name in ('stage', 'what differs', 'score'):
        table.add_column(name, overflow='fold', no_wrap=name == 'score')
    for name in ('here', 'there', 'difference'):
        table.add_column(name, justify='right', no_wrap=True)
    for finding in findings:
        cells = [
            (f'{score["metric"]} {score["split"]}', number(score['here']), number(score['there']), signed(score))
            for score in finding['scores']
        ]
        columns = ['\n'.join(column) for column in zip(*cells)] or [''] * 4
        # As `Text`, for brackets in a setting are no markup.
        stage = '\n'.join(filter(None, [finding['stage'], finding['source']]))
        row = [Text(stage), Text('\n'.join(_differing_lines(finding))), *map(Text, columns)]
        style = 'red' if is_off(finding) else 'dim' if finding['state'] == 'extra' else None
        table.add_row(*row, style=style)
    return table


def note_lines(findings: Sequence[dict]) -> list[str]:
    """What is to be known of the reference's scores, a line each, for the stages that were compared."""
    notes = {}
    for finding in findings:
        if finding['scores']:
            for note in finding['notes']:
                notes.setdefault(note, []).append(finding['stage'])
    return [f'{", ".join(stages)}: {note}.' for note, stages in notes.items()]


def _differing_lines(finding):
    """Lines of the table's cell."""
    if finding['state'] == 'missing':
        return ['not in this run']
    if finding['state'] == 'extra':
        return ['not in the reference']
    if finding['state'] in ('unfinished', 'skipped'):
        return [f'not finished (status {finding["status"]})' if finding['state'] == 'unfinished' else 'left out']
    lines = [] if finding['state'] != 'unscored' else ['no score to compare']
    lines += [f'made from an earlier {stage}' for stage in finding['outdated']]
    for part in differing_parts(finding):
        if part == 'settings':
            lines += map(setting_line, finding[part][:SHOWN_SETTINGS])
            if len(finding[part]) > SHOWN_SETTINGS:
                lines.append(f'and {len(finding[part]) - SHOWN_SETTINGS} more')
        else:
            lines.append(tell(finding, [part]))
    return lines or ['nothing that the paper states' if finding['published'] else 'nothing']
