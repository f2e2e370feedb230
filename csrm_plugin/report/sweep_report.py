"""The report of a sweep."""

import os
import os.path as osp

from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import (
    NONE,
    count,
    duration,
    is_number,
    number,
    option,
    score_name,
    setting,
    short_setting,
)
from csrm_plugin.report.page.markup import Html, Ids, details, join, table, tag
from csrm_plugin.report.paper.delta_fg import swept_key
from csrm_plugin.report.paper.delta_fg_page import delta_fg_section
from csrm_plugin.report.runs.sweeps import UNFINISHED, read_sweep
from csrm_plugin.report.sections import sweep_plots
from csrm_plugin.utils import UserError


def write_sweep_report(
    folder: str | os.PathLike, out: str | os.PathLike | None = None, reference: str | None = None
) -> str:
    """Write the report of a sweep as one HTML file that needs nothing else.

    Args:
        folder (str): Of the sweep, with ``sweep.json``.
        out (str, optional): The file; ``report.html`` in the folder by default.
        reference (str, optional): Work directory of the classifier, for a sweep of delta_fg alone; by default the
            folder of the ``load_from`` that the trials started from.

    Returns:
        str: Path of the file.

    Raises:
        MissingFileError: If there is no such sweep or reference.
        UserError: If ``sweep.json`` is broken, or the reference does not suit.
    """
    sweep = read_sweep(folder)
    if reference is not None and swept_key(sweep) is None:
        raise UserError(
            f'--reference is for a sweep of model.pseudo_label.fg_threshold alone; `{folder}` varies '
            f'{", ".join(sweep.keys) or "nothing"}'
        )
    ids = Ids()
    sections = [
        _best(sweep),
        _what(sweep),
        delta_fg_section(ids, sweep, reference),
        sweep_plots.search_section(ids, sweep),
        sweep_plots.slices_section(ids, sweep),
        sweep_plots.parallel_section(ids, sweep),
        sweep_plots.curves_section(ids, sweep),
        layout.Section('Trials', [_trial_table(sweep)]),
    ]
    title = str(sweep.content.get('name') or osp.basename(osp.abspath(folder)))
    text = layout.render(
        ids, 'Sweep report', title, _lead(sweep), [layout.warnings(_notices(sweep)), _cards(sweep)], sections
    )
    return layout.write(out or osp.join(folder, layout.REPORT), text)


def _lead(sweep):
    content = sweep.content
    states = _states(sweep)
    shown = ', '.join(f'{amount} {state}' for state, amount in states.items()) or 'none'
    better = 'higher is better' if sweep.maximized else 'lower is better'
    return join(
        f'{str(content.get("method") or "").capitalize()} search over {count(len(sweep.keys), "setting")} of ',
        tag('code', content.get('config') or 'an unknown config'),
        ', scored by ',
        tag('code', sweep.metric),
        f' ({better}; last value of each trial). Trials: {shown}.',
    )


def _states(sweep):
    states = {}
    for trial in sweep.trials:
        states[trial['state']] = states.get(trial['state'], 0) + 1
    return states


def _notices(sweep):
    lines = []
    for trial in sweep.trials:
        if trial['state'] == 'failed':
            reason = str(trial.get('reason') or 'no reason recorded').rstrip('.')
            lines.append(f'Trial {trial["number"]} failed: {reason}')
    if sweep.unfinished:
        states = _states(sweep)
        left = ', '.join(f'{states[state]} {state}' for state in UNFINISHED if state in states)
        lines.append(
            f'{count(sweep.unfinished, "trial")} not finished ({left}): the sweep is under way, or was stopped.'
        )
    if not sweep.complete:
        lines.append('No trial is complete, so there is no best one.')
    if len(lines) > 8:
        lines = [*lines[:7], f'{len(lines) - 7} more of this kind; the table of trials has them all.']
    return lines


def _cards(sweep):
    cards, best = [], sweep.best
    if best:
        where = f'{score_name(sweep.metric)}, trial {best["number"]}'
        where += f', iteration {number(best["iteration"])}' if is_number(best.get('iteration')) else ''
        stands = sweep.context(best) or 'what it stands on was not recorded'
        cards.append(layout.card('Best', sweep.text(best['value']), f'{where}: {stands}.'))
        values = [trial['value'] for trial in sweep.complete]
        cards.append(
            layout.card(
                'Range of all complete trials',
                f'{sweep.text(min(values))} to {sweep.text(max(values))}',
                f'{count(len(values), "trial")}.',
                text=True,
            )
        )
    shown = ', '.join(f'{amount} {state}' for state, amount in _states(sweep).items())
    cards.append(layout.card('Trials', number(len(sweep.trials)), f'{shown}.' if shown else None))
    seconds = [trial['seconds'] for trial in sweep.trials if is_number(trial.get('seconds'))]
    if seconds:
        cards.append(
            layout.card('Time of all trials', duration(sum(seconds)), f'{duration(sum(seconds) / len(seconds))} each.')
        )
    return tag('div', cards, cls='cards')


def _what(sweep):
    content = sweep.content
    parameters = content.get('parameters') or {}
    rows = [
        [tag('code', key), tag('code', _range(parameters.get(key))), _tried(sweep, key)]
        for key in [*sweep.keys, *(key for key in parameters if key not in sweep.keys)]
    ]
    parts = [table(['Setting', 'Searched', 'Tried'], rows, 'What was varied, and what came of it.')]
    fixed = content.get('cfg_options') or {}
    if fixed:
        lines = [[tag('code', key), tag('code', setting(value))] for key, value in sorted(fixed.items())]
        parts.append(table(['Setting', 'Value'], lines, 'Fixed in all trials, beside what the config says.'))
    if content.get('yaml'):
        parts.append(tag('p', 'Read from ', tag('code', content['yaml']), '.', cls='note'))
    notes = content.get('notes') or []
    if notes:
        parts += [tag('h3', 'Done otherwise than W&B would'), tag('ul', [tag('li', note) for note in notes])]
    return layout.Section('What was swept', parts)


def _best(sweep):
    best = sweep.best
    if not best:
        return layout.Section('Best settings', [])
    options = ' '.join(option(key, value) for key, value in best['params'].items())
    text = f'Of trial {best["number"]}; they go behind the command of a training.'
    return layout.Section('Best settings', [tag('p', text), tag('code', f'--cfg-options {options}', cls='command')])


def _range(parameter):
    """The search space of a setting, in short."""
    if not isinstance(parameter, dict):
        return NONE
    if 'value' in parameter:
        return f'{setting(parameter["value"])}, fixed'
    if 'values' in parameter:
        return ', '.join(map(setting, parameter['values']))
    text = f'{setting(parameter.get("min"))} to {setting(parameter.get("max"))}'
    kind = parameter.get('distribution')
    return f'{text}, {kind}' if kind else text


def _tried(sweep, key):
    begun = [trial for trial in sweep.trials if trial['state'] != 'waiting']
    values = [trial['params'][key] for trial in begun if key in trial['params']]
    distinct = list(dict.fromkeys(map(setting, values)))
    if len(distinct) > 8 and all(map(is_number, values)):
        return f'{len(distinct)} values from {number(min(values))} to {number(max(values))}'
    return ', '.join(distinct) or NONE


def _trial_table(sweep):
    keys = sweep.keys
    head = ['Trial', 'State', sweep.metric, *(sweep.short_name(key) for key in keys), 'Iteration', 'Seconds']
    rows = []
    for trial in sweep.trials:
        seconds = trial.get('seconds')
        rows.append(
            [
                number(trial['number']),
                _state(trial),
                sweep.text(trial.get('value')),
                *(short_setting(trial['params'][key]) if key in trial['params'] else NONE for key in keys),
                number(trial.get('iteration')),
                number(round(seconds)) if is_number(seconds) else NONE,
            ]
        )
    texts = {1, *(3 + index for index, key in enumerate(keys) if not _is_numeric(sweep, key))}
    numeric = set(range(len(head))) - texts
    caption = f'{count(len(rows), "trial")}. A heading sorts the table.'
    shown = tag('div', table(head, rows, caption, numeric, cls='sortable'), cls='tall')
    names = [[sweep.short_name(key), tag('code', key)] for key in keys if sweep.short_name(key) != key]
    return join(
        shown, details('Full names of the settings', table(['Short', 'Setting'], names, 'Names')) if names else None
    )


def _is_numeric(sweep, key):
    return all(is_number(trial['params'][key]) for trial in sweep.trials if key in trial['params'])


def _state(trial) -> Html:
    state, reason = trial['state'], trial.get('reason')
    shown = layout.state(state, ('complete', 'pruned', 'failed', 'running', 'waiting'))
    return join(shown, tag('span', reason, cls='context')) if reason else shown
