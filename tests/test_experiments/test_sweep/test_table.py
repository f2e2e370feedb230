import io

from rich.console import Console

from csrm_plugin.experiments.sweep.rows import Row
from csrm_plugin.experiments.sweep.table import (
    Display,
    format_params,
    format_time,
    format_value,
    short_names,
    trials_table,
)


def row(number, state, value=None, **more):
    curve = [] if value is None else [(10, value / 2), (20, value)]
    found = dict(
        number=number,
        slot=number,
        attempt=1,
        state=state,
        params={'model.a.weight': number, 'model.b.weight': 0.5},
        stored={},
        curve=curve,
        value=value,
        why=None,
        reason=None,
        seconds=95.0,
        outcome={},
    )
    return Row(**{**found, **more})


def sweep(toy):
    return toy.sweep({'model.a.weight': {'values': [0, 1, 2]}, 'model.b.weight': {'value': 0.5}})


def lines(toy, rows, height=1000):
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(trials_table(rows, sweep(toy), 9, 0, height))
    return console.export_text().splitlines()


def test_a_table_of_trials(toy):
    rows = [row(0, 'complete', 51.26789), row(1, 'running', 40.0), row(2, 'failed', why='failed'), row(3, 'waiting')]
    text = lines(toy, rows)
    assert any(
        '0' in line and 'complete' in line and '51.27' in line and '20' in line and '1.6 min' in line for line in text
    )
    assert not any('waiting' in line for line in text)
    caption = ' '.join(line.strip() for line in text if line[:1] not in '┏┃┡│└')
    assert caption == '2 of 9 done, 1 running, 1 failed, best: trial 0, seg/mIoU 51.27'


def test_a_long_table_keeps_what_runs_and_the_last(toy):
    rows = [row(0, 'running', 1.0), *[row(number, 'complete', 1.0) for number in range(1, 50)]]
    body = [line.split()[1] for line in lines(toy, rows, 5) if line.startswith('│')]
    assert body == ['0', '46', '47', '48', '49']


def test_a_terminal_gets_a_table_and_a_file_gets_lines(toy):
    for terminal in (True, False):
        console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
        display = Display(console, sweep(toy), 9, 0)
        with display.shown():
            display.event('trial 0 starts: a=[1, 2]')
            display.update([row(0, 'running', 40.0)])
        text = console.file.getvalue()
        assert 'trial 0 starts: a=[1, 2]' in text and ('1 running' in text) is terminal


def test_words_for_people():
    names = ['model.loss_u.loss_weight', 'model.loss_m.loss_weight', 'optim.lr', 'lr']
    assert list(short_names(names).values()) == ['loss_u.loss_weight', 'loss_m.loss_weight', 'optim.lr', 'lr']
    assert [format_value(value) for value in (0.123456, 1e-05, 3, None, 'a', [1])] == [
        '0.1235',
        '1e-05',
        '3',
        '',
        'a',
        '[1]',
    ]
    assert [format_time(seconds) for seconds in (None, 3.2, 600, 7200)] == ['', '3 s', '10.0 min', '2.0 h']


def test_parameters_in_a_line(toy):
    assert format_params({'model.a.weight': 1, 'model.b.weight': 0.5}, sweep(toy).searched) == 'weight=1'
