"""What runs cost: time, speed, memory, machine."""

import statistics
from collections.abc import Sequence

from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import NONE, count, duration, is_number, memory, moment, number
from csrm_plugin.report.page.markup import Html, table, tag
from csrm_plugin.report.runs.run import Run


def cost_card(runs: Sequence[Run]) -> Html | None:
    """Time of the runs as a key number; None where it is not known."""
    seconds = [(run.info.get('cost') or {}).get('seconds') for run in runs]
    known = [value for value in seconds if is_number(value)]
    if not known:
        return None
    cost = runs[0].info['cost'] if len(runs) == 1 else {}
    words = []
    if is_number(cost.get('images_per_second')):
        words.append(f'{number(round(cost["images_per_second"], 1))} images per second in training')
    words += [text for text in (_peak(cost), cost.get('device')) if text]
    if is_number(cost.get('processes')):
        words.append(count(cost['processes'], 'process'))
    if len(runs) > 1:
        words.append(f'{count(len(known), "run")} together')
    parts = {run.label: part_of(run) for run in runs if part_of(run)}
    words += [part if len(runs) == 1 else f'{label} {part}' for label, part in parts.items()]
    return layout.card('Time', duration(sum(known)), f'{", ".join(words)}.' if words else None)


def cost_section(runs: Sequence[Run]) -> layout.Section:
    """A table of what each run cost."""
    names = (
        ('Time, all', lambda run, cost: duration(cost.get('seconds'))),
        ('of which training', lambda run, cost: _share(cost, 'train_seconds')),
        ('of which validation', lambda run, cost: _share(cost, 'val_seconds')),
        ('Seconds per iteration (mean of the log)', lambda run, cost: number(_iteration_time(run))),
        ('Images per second, training', lambda run, cost: _rate(cost.get('images_per_second'))),
        ('Peak memory of the process', lambda run, cost: memory((cost.get('peak_memory_mib') or {}).get('host'))),
        ('Peak memory of the GPU', lambda run, cost: memory(_gpu_memory(run, cost))),
        ('Device', lambda run, cost: cost.get('device') or NONE),
        ('Processes', lambda run, cost: number(cost.get('processes'))),
        ('Trainable parameters', lambda run, cost: _parameters(cost.get('parameters'))),
        ('Started', lambda run, cost: moment(run.info.get('started'))),
        ('Finished', lambda run, cost: moment(run.info.get('finished'))),
    )
    rows = [[name, *(value(run, run.info.get('cost') or {}) for run in runs)] for name, value in names]
    rows = [row for row in rows if any(cell != NONE for cell in row[1:])]
    if not rows:
        return layout.Section('Cost', [])
    caption = 'Times are of the clock on the wall.'
    head = ['', *(run.label for run in runs)]
    content = [table(head, rows, caption, numeric=range(1, len(head)), cls='compact')]
    for run in runs:
        if part_of(run):
            content.append(
                tag('p', f'{run.label} did not finish: its cost is {part_of(run)}, the last record.', cls='note')
            )
    if any(not run.info.get('cost') for run in runs):
        content.append(tag('p', f'{NONE} stands for what was not recorded.', cls='note'))
    return layout.Section('Cost', content)


def part_of(run: Run) -> str | None:
    """``up to iteration 40`` for a run that did not finish, whose cost was last written down there; else None."""
    if run.info.get('status') in (None, 'finished') or not run.info.get('cost'):
        return None
    return f'up to iteration {number(run.info.get("iteration"))}'


def _share(cost, name):
    seconds, whole = cost.get(name), cost.get('seconds')
    if not is_number(seconds):
        return NONE
    return (
        f'{duration(seconds)} ({100 * seconds / whole:.0f}%)' if is_number(whole) and whole > 0 else duration(seconds)
    )


def _rate(value):
    return f'{value:.1f}' if is_number(value) else NONE


def _parameters(value):
    return f'{value / 1e6:.2f} million' if is_number(value) and value >= 1e5 else number(value)


def _iteration_time(run):
    times = [line['time'] for line in run.record.train if is_number(line.get('time'))]
    return statistics.mean(times) if times else None


def _gpu_memory(run, cost):
    peak = (cost.get('peak_memory_mib') or {}).get('gpu')
    logged = [line['memory'] for line in run.record.train if is_number(line.get('memory'))]
    return peak if is_number(peak) else max(logged, default=None)


def _peak(cost):
    peak = cost.get('peak_memory_mib') or {}
    if is_number(peak.get('gpu')):
        return f'{memory(peak["gpu"])} of GPU memory at most'
    return f'{memory(peak["host"])} of memory at most' if is_number(peak.get('host')) else None
