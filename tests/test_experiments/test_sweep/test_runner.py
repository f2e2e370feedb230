import csv
import json
import os
import shlex
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from csrm_plugin.config.arguments import OptionsAction
from csrm_plugin.experiments import children
from csrm_plugin.experiments.sweep import runner
from csrm_plugin.utils import MissingFileError, UserError

X = {'model.x': {'values': [1.0, 3.0, 2.0]}}


def states(content):
    return [row['state'] for row in content['trials']]


def test_a_grid_from_start_to_end(toy):
    content = toy.run(X, options={'model.y': 3})
    assert toy.began() == [f'x={x} y=3 mode=0' for x in (1.0, 3.0, 2.0)]
    first = content['trials'][0]
    assert first['curve'] == [[10, 1.0], [20, 2.0]] and first['value'] == 2.0 and first['iteration'] == 20
    assert (first['state'], first['attempt'], first['folder'], first['reason']) == ('complete', 1, 'trial_0000', None)
    assert content['best'] == {'number': 1, 'params': {'model.x': 3.0}, 'value': 6.0}
    assert content['metric'] == {'name': 'seg/mIoU', 'goal': 'maximize'} and content['parameters'] == X
    assert (content['format'], content['name'], content['config']) == (1, 'toy_conf', 'conf.py')
    assert content['importances'] is None and 'no importances: they need 10' in toy.printed
    with open('sweep/trials.csv') as file:
        rows = list(csv.DictReader(file))
    assert [row['model.x'] for row in rows] == ['1.0', '3.0', '2.0'] and rows[2]['seg/mIoU'] == '4.0'


def test_the_best_settings_can_be_pasted(toy):
    toy.run({'model.mode': {'values': ['a b', "it's"]}}, options={'model.y': [1, 2]})
    line = next(line for line in toy.printed.splitlines() if line.startswith('best settings: '))
    texts = shlex.split(line.partition(': ')[2])
    assert texts[0] == '--cfg-options'
    read = {key: OptionsAction.parse_value(text) for key, _, text in (item.partition('=') for item in texts[1:])}
    assert read == {'model.y': [1, 2], 'model.mode': 'a b'}


def test_a_second_call_repeats_nothing_and_a_larger_one_goes_on(toy):
    toy.run(X, trials=2)
    assert len(toy.began()) == 2
    again = toy.run(X, trials=2)
    assert len(toy.began()) == 2 and again['best']['number'] == 1
    toy.run(X)
    assert len(toy.began()) == 3 and len(set(toy.began())) == 3


def test_what_goes_wrong_is_listed_and_the_sweep_goes_on(toy):
    content = toy.run({'model.mode': {'values': ['ok', 'crash', 'diverge', 'shot', 'silent']}, 'model.x': {'value': 2}})
    assert states(content) == ['complete', 'failed', 'failed', 'failed', 'failed']
    assert [row['reason'] for row in content['trials'][1:]] == [
        'the toy is broken',
        '`seg/mIoU` is nan at iteration 20',
        'it was killed by SIGKILL (memory full?)',
        '`seg/mIoU` was never logged; it logged loss',
    ]
    assert content['trials'][1]['tail'] == ['some words', 'error: the toy is broken']
    assert 'trial 1 failed after 0 s: the toy is broken; its log is sweep/trial_0001/trial.log' in toy.printed
    toy.run({'model.mode': {'values': ['ok', 'crash', 'diverge', 'shot', 'silent']}, 'model.x': {'value': 2}})
    assert len(toy.began()) == 5


def test_retries(toy):
    with pytest.raises(UserError, match=r'no trial of toy.yaml is complete, 2 failed; the last one: the toy is broken'):
        toy.run({'model.mode': {'values': ['crash']}}, retries=1)
    assert [(row['attempt'], row['folder']) for row in toy.result()['trials']] == [(1, 'trial_0000'), (2, 'trial_0001')]


def test_failures_in_a_row_end_the_sweep_and_a_later_call_goes_on(toy):
    modes = {'model.mode': {'values': ['crash', 'ok']}, 'model.x': {'values': [1, 2, 3]}}
    with pytest.raises(UserError, match=r'2 failures in a row \(trial 0: the toy is broken; trial 1: .*call again'):
        toy.run(modes, max_failures=2)
    assert states(toy.result())[:3] == ['failed', 'failed', 'waiting']
    mixed = {'model.mode': {'values': ['crash', 'ok', 'diverge', 'fine', 'shot']}}
    assert states(toy.run(mixed, max_failures=2, name='mixed', work_dir='mixed')).count('failed') == 3
    content = toy.run(modes, max_failures=2)
    assert states(content) == ['failed'] * 3 + ['complete'] * 3 and len(toy.began()) == 6 + 5


def test_a_bad_trial_is_stopped(toy):
    rule = {'early_terminate': {'type': 'hyperband', 'min_iter': 2}}
    parameters = {'model.x': {'values': [3.0, 1.0, 2.0]}, 'model.steps': {'value': 30}, 'model.sleep': {'value': 0.03}}
    content = toy.run(parameters, more=rule)
    assert states(content) == ['complete', 'pruned', 'pruned']
    # Brackets 2 and 6. Of two runs the better one goes on, of three the better two; the third meets the first alone.
    second, third = content['trials'][1:]
    assert (second['iteration'], second['value'], third['iteration'], third['value']) == (20, 2.0, 60, 12.0)
    assert second['reason'] == 'pruned at iteration 20: seg/mIoU 2'
    assert toy.ended() == ['x=3.0 y=0 mode=0']
    toy.run(parameters, more=rule)
    assert len(toy.began()) == 3
    assert any(note.startswith('early_terminate: ') for note in content['notes'])


def test_a_stubborn_training_is_killed(toy, monkeypatch):
    monkeypatch.setattr(children, 'GRACE', 0.3)
    path = toy.folder / 'tools' / 'train.py'
    path.write_text('import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n' + path.read_text())
    rule = {'early_terminate': {'type': 'hyperband', 'min_iter': 1}}
    parameters = {'model.x': {'values': [3.0, 1.0]}, 'model.steps': {'value': 20}, 'model.sleep': {'value': 0.05}}
    content = toy.run(parameters, more=rule)
    # It ignores the signal, and would come to its end if nobody killed it.
    assert states(content) == ['complete', 'pruned'] and toy.ended() == ['x=3.0 y=0 mode=0']


def test_the_target_ends_the_sweep(toy):
    metric = {'metric': {'name': 'seg/mIoU', 'goal': 'maximize', 'target': 5}}
    content = toy.run(X, more=metric)
    assert states(content) == ['complete', 'complete', 'waiting'] and 'trial 1 has reached the target 5' in toy.printed
    assert len(toy.run(X, more=metric)['trials']) == 3 and len(toy.began()) == 2


def test_jobs_share_the_machine(toy, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(runner, 'available_cores', lambda: 8)
    toy.run({**X, 'model.sleep': {'value': 0.2}}, jobs=2)
    started = [
        json.loads((toy.folder / 'sweep' / f'trial_000{i}' / 'started.json').read_text())['env'] for i in range(3)
    ]
    assert {env['CUDA_VISIBLE_DEVICES'] for env in started[:2]} == {'4', '6'}
    assert {(env['OMP_NUM_THREADS'], env['WANDB_RUN_GROUP'], env['CSRM_DIE_WITH_PARENT']) for env in started} == {
        ('4', 'toy_conf', '1')
    }


def test_random_and_bayes_need_an_end_and_can_be_repeated(toy):
    space = {'model.x': {'min': 0.0, 'max': 1.0}}
    with pytest.raises(UserError, match='give --trials N'):
        toy.run(space, 'random')
    content = toy.run(space, 'random', trials=3)
    drawn = [row['params']['model.x'] for row in content['trials']]
    assert len(set(drawn)) == 3 and len(toy.began()) == 3
    more = toy.run(space, 'random', trials=4)
    assert [row['params']['model.x'] for row in more['trials']][:3] == drawn and len(toy.began()) == 4


def test_importances_of_enough_trials(toy, monkeypatch):
    monkeypatch.setattr(runner, 'PAUSE', 0.005)
    space = {'model.x': {'values': [1, 2, 3, 4, 5, 6]}, 'model.y': {'values': [1, 2]}}
    shares = toy.run(space, jobs=4)['importances']
    assert set(shares) == set(space) and abs(sum(shares.values()) - 1) < 1e-6 and shares['model.x'] > 0.7
    assert 'importances: model.x' in toy.printed


@pytest.mark.parametrize(
    ('parameters', 'arguments', 'words'),
    [
        ({'models.x': {'values': [1]}}, {}, 'a trial of toy.yaml would fail: unknown setting `models.x`'),
        (X, {'options': {'model.z.a': 1}}, 'model.z'),
        (X, {'options': {'load_from': 'gone.pth'}}, 'gone.pth'),
        ({'load_from': {'values': ['conf.py', 'gone.pth']}}, {}, 'gone.pth'),
        (X, {'config': 'none.py'}, 'none.py'),
        (X, {'jobs': 0}, '--jobs must be at least 1'),
        (X, {'options': {'model.x': 1}}, 'the sweep varies it'),
    ],
)
def test_what_is_wrong_shows_before_anything_starts(toy, parameters, arguments, words):
    with pytest.raises(UserError) as error:
        runner.run_sweep(toy.write(parameters), str(toy.folder), Console(quiet=True), work_dir='sweep', **arguments)
    assert words in str(error.value) and not os.path.exists('sweep') and not toy.began()
    assert isinstance(error.value, MissingFileError) == (words in ('gone.pth', 'none.py'))


def test_a_changed_setting_is_refused(toy):
    toy.run(X)
    (toy.folder / 'conf.py').write_text("model = dict(x=0.0, y=7, mode='ok', steps=2, sleep=0)\nload_from = None\n")
    with pytest.raises(UserError, match=r'`settings.model.y`: 0 there, 7 now'):
        toy.run(X)
    with pytest.raises(UserError, match=r'another `cfg_options.model.y`: null there, 0 now'):
        toy.run(X, options={'model.y': 0})
    with pytest.raises(UserError, match='trials of another study'):
        toy.run(X, name='other')


def test_ctrl_c_ends_the_trainings_and_queues_their_trials(toy):
    parameters = {'model.x': {'values': [1, 2, 3]}, 'model.sleep': {'value': 0.01}}
    slow = {'model.x': {'values': [1, 2, 3]}, 'model.sleep': {'value': 600}}
    toy.run(parameters)

    def stop():
        deadline = time.monotonic() + 120
        while len(toy.began()) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    path = toy.write(slow)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        runner.run_sweep(path, str(toy.folder), Console(quiet=True), jobs=2, work_dir='slow')
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    content = json.loads((toy.folder / 'slow' / 'sweep.json').read_text())
    assert states(content) == ['failed', 'failed', 'waiting', 'waiting', 'waiting']
    assert [row['reason'] for row in content['trials'][:2]] == ['interrupted'] * 2
    assert len(toy.ended()) == 3
    pids = [json.loads((toy.folder / 'slow' / f'trial_000{i}' / 'started.json').read_text())['pid'] for i in range(2)]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_training_that_ctrl_c_ended_is_no_failure():
    asked = runner.Runner.__new__(runner.Runner)
    asked.signals, asked._report, asked._finish = 1, lambda *args, **more: None, None
    asked._follow(SimpleNamespace(told=False, poll=lambda: (130, [])))  # left to what ends the sweep
