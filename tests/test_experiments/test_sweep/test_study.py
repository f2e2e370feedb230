import contextlib
import json
import subprocess
import sys

import optuna
import pytest
from packaging.version import Version

from csrm_plugin.experiments.sweep import ownership, study
from csrm_plugin.experiments.sweep.definition import SEES_RUNNING
from csrm_plugin.experiments.sweep.rows import MOST_KILLS, best_row, due_again, finished_slots, latest
from csrm_plugin.utils import UserError

GRID = {'model.x': {'values': [0.1, 0.2, 0.3]}, 'model.y': {'values': [1, 2]}}
RANDOM = {'model.x': {'min': 0.0, 'max': 1.0}, 'model.y': {'min': 1, 'max': 100}}
CELLS = [{'model.x': x, 'model.y': y} for x in (0.1, 0.2, 0.3) for y in (1, 2)]


@pytest.fixture(params=['journal', 'sqlite'])
def storage(request, tmp_path):
    """Both kinds of storage; None is the journal."""
    return None if request.param == 'journal' else f'sqlite:///{tmp_path}/study.db'


@pytest.fixture
def dead():
    """A process of this machine that is over."""
    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    owner = {**ownership.identity(), 'pid': child.pid, 'start': ownership._start(child.pid)}
    child.communicate(b'\n')
    return owner


def complete(shared, trial, value=1.0):
    return shared.finish(trial, dict(state='COMPLETE', value=value, seconds=1.0))


def fail(shared, trial, why='failed'):
    return shared.finish(trial, dict(state='FAIL', why=why, reason='why not', seconds=1.0))


def claim_all(*studies):
    """Values of all trials, each study taking one in turn."""
    found, left = [], list(studies)
    while left:
        for shared in list(left):
            trial = shared.claim()
            if trial is None:
                left.remove(shared)
            else:
                found.append((trial.number, shared.values(trial)))
                complete(shared, trial)
    return found


def test_a_grid_is_shared_in_order_and_each_cell_once(toy, storage):
    sweep = toy.sweep(GRID)
    first, second = toy.shared(sweep, storage=storage), toy.shared(sweep, storage=storage)
    first.fill()
    second.fill()
    assert claim_all(first, second) == list(enumerate(CELLS))
    assert first.finished() == second.finished() == 6
    third = toy.shared(sweep, storage=storage)
    third.fill()
    assert third.claim() is None and len(third.rows()) == 6


def test_what_was_queued_twice_without_a_lock_runs_once(toy, monkeypatch):
    monkeypatch.setattr(study, 'file_lock', lambda path: contextlib.nullcontext())
    sweep = toy.sweep(GRID)
    first, second = toy.shared(sweep), toy.shared(sweep)
    before = first.rows
    first.rows = list  # it looks before the other one has queued anything
    second.fill()
    first.fill()
    first.rows = before
    assert len(first.study.trials) == 12 and len(first.rows()) == 6
    assert claim_all(first, second) == list(enumerate(CELLS))
    mixed = toy.shared(sweep, folder='mixed')
    for slot in (0, 0, 1, 0):
        mixed._queue(
            slot, 1, mixed.study.trials[0].system_attrs['fixed_params'] if slot else {'model.x': 0.1, 'model.y': 1}
        )
    mixed.fill()
    assert [number for number, _ in claim_all(mixed)] == [0, 2, 4, 5, 6, 7]
    # A creator that was killed half-way: the rest is queued by the next one.
    half = toy.shared(sweep, folder='half')
    half._queue(0, 1, {'model.x': 0.1, 'model.y': 1})
    half._queue(1, 1, {'model.x': 0.1, 'model.y': 2})
    half.fill()
    assert [row.params for row in half.rows()] == CELLS


def test_wanted_trials_are_never_more(toy):
    sweep = toy.sweep(GRID)
    few = toy.shared(sweep, 2)
    few.fill()
    assert len(claim_all(few)) == 2 and few.finished() == 2
    more = toy.shared(sweep, 4)
    more.fill()
    trial = more.claim()
    assert few.claim() is None and trial.number == 2
    complete(more, trial)
    all_of_them = toy.shared(sweep, 100)
    all_of_them.fill()
    assert all_of_them.wanted == 6 and toy.shared(sweep, 3).claim() is None
    assert len(claim_all(all_of_them)) == 3
    late = toy.shared(sweep, 6, folder='late')
    late.fill()
    fail(late, late.claim(), 'interrupted')  # slot 0 waits again, behind the others
    for _ in range(2):
        complete(late, late.claim())
    assert toy.shared(sweep, 2, folder='late').claim() is None and late.claim() is not None
    assert study.wanted_trials(toy.sweep(GRID, run_cap=4)) == 4
    assert study.wanted_trials(toy.sweep(RANDOM, 'random', run_cap=4), 9) == 4
    with pytest.raises(UserError, match='give --trials N'):
        study.wanted_trials(toy.sweep(RANDOM, 'random'))
    with pytest.raises(UserError, match='--trials must be at least 1'):
        study.wanted_trials(sweep, 0)
    with pytest.raises(UserError, match='10100 combinations'):
        study.wanted_trials(toy.sweep({'a': {'min': 0, 'max': 100}, 'b': {'min': 1, 'max': 100}}))


def test_a_random_search_draws_the_same_points_whoever_draws(toy):
    sweep = toy.sweep(RANDOM, 'random')
    alone = toy.shared(sweep, 6, folder='alone')
    alone.fill()
    first, second = toy.shared(sweep, 6, folder='both'), toy.shared(sweep, 6, folder='both')
    first.fill()
    points = claim_all(alone)
    assert points == claim_all(first, second)
    assert len({repr(values) for _, values in points}) == 6
    other = toy.shared(sweep, 6, folder='seed', seed=5)
    other.fill()
    assert not {repr(values) for _, values in claim_all(other)} & {repr(values) for _, values in points}


@pytest.mark.parametrize('early', [None, {'type': 'hyperband', 'min_iter': 1}])
def test_bayes_learns_and_works_with_several_at_a_time(toy, early):
    more = {} if early is None else {'early_terminate': early}
    sweep = toy.sweep({'model.x': {'min': 0.0, 'max': 1.0}, 'model.mode': {'values': ['a', 'b']}}, 'bayes', **more)
    shared = toy.shared(sweep, 24)
    shared.fill()
    found = []
    for _ in range(12):
        pair = [shared.claim(), shared.claim()]
        values = [shared.values(trial) for trial in pair]
        if early is not None or Version(optuna.__version__) >= SEES_RUNNING:  # older ones are told of in the notes
            assert values[0] != values[1]
        for trial, point in zip(pair, values):
            score = -((point['model.x'] - 0.7) ** 2) - (point['model.mode'] == 'a')
            found.append(score)
            complete(shared, trial, score)
    assert max(found) > -0.01 and sum(found[12:]) > sum(found[:12])
    assert type(pair[0].study.sampler).__name__ == ('GPSampler' if early is None else 'TPESampler')


def test_a_dead_process_gives_its_trial_back(toy, storage, dead):
    sweep = toy.sweep({'model.x': {'min': 0.0, 'max': 1.0}}, 'random')
    shared = toy.shared(sweep, 2, storage=storage)
    shared.fill()
    killer, heir = toy.shared(sweep, 2, storage=storage), toy.shared(sweep, 2, storage=storage)
    numbers, values = [], []
    for _ in range(MOST_KILLS):
        assert shared.recover() == []  # the living are left alone
        killer.owner = dead
        trial = killer.claim()
        killer._mine.clear()
        numbers.append(trial.number)
        values.append(killer.values(trial))
        ended = shared.recover()
        assert [row.number for row in ended] == [trial.number] and ended[0].reason == 'its process was killed'
        assert heir.recover() == []  # once, not twice
        if len(numbers) == 1:  # the other slot is next in the queue
            complete(shared, shared.claim())
    assert values == values[:1] * MOST_KILLS and len(set(numbers)) == MOST_KILLS
    last = latest(shared.rows())[0]
    assert (last.attempt, last.state, last.why) == (MOST_KILLS, 'failed', 'killed')
    assert shared.claim() is None and shared.finished() == 2
    again = toy.shared(sweep, 2, storage=storage, retries=1)
    again.fill()
    assert again.values(again.claim()) == values[0]


def test_a_kill_while_a_trial_is_taken_or_ended_loses_nothing(toy, dead):
    sweep = toy.sweep({'model.x': {'values': [1.0, 2.0]}})
    shared, killed = toy.shared(sweep), toy.shared(sweep)
    shared.fill()
    killed.owner = dead
    # Before the first parameter was stored.
    trial_id = killed._pop()
    assert shared.study._storage.get_trial(trial_id).params == {}
    shared.recover()
    assert latest(shared.rows())[0].params == {'model.x': 1.0} and latest(shared.rows())[0].attempt == 2
    # After the outcome was written and before the state was.
    trial = killed.claim()
    trial.report(5.0, 10)
    killed._set(trial._trial_id, 'outcome', dict(state='COMPLETE', value=5.0, seconds=1.0))
    shared.recover()
    assert [(row.state, row.value, row.attempt) for row in shared.rows()][1] == ('complete', 5.0, 1)
    assert len(claim_all(shared)) == 1 and shared.finished() == 2


def test_a_training_that_came_to_its_end_counts_though_nobody_saw_it(toy, dead):
    shared = toy.shared(toy.sweep({'model.x': {'values': [1.0, 2.0]}}))
    killed = toy.shared(shared.sweep)
    shared.fill()
    killed.owner = dead
    for status in ('finished', 'running'):
        folder = toy.folder / 'sweep' / f'trial_{killed.claim().number:04d}'
        (folder / 'record').mkdir(parents=True)
        (folder / 'record' / 'run.json').write_text(json.dumps({'status': status, 'cost': {'seconds': 9.0}}))
        (folder / 'now' / 'vis_data').mkdir(parents=True)
        (folder / 'now' / 'vis_data' / 'scalars.json').write_text('{"seg/mIoU": 7.5, "step": 10}\n')
    assert [(row.state, row.value, row.seconds) for row in shared.recover()] == [
        ('complete', 7.5, 9.0),
        ('failed', None, None),
    ]


def test_whoever_was_taken_for_dead_notices(toy):
    sweep = toy.sweep(GRID)
    owner, other = toy.shared(sweep), toy.shared(sweep)
    owner.fill()
    trial = owner.claim()
    assert owner.beat(trial) and owner.report(trial, 10, 1.0)
    assert other._end(trial._trial_id, dict(state='FAIL', why='killed', reason='its process was killed'))
    assert not owner.beat(trial) and not owner.report(trial, 20, 1.0) and not complete(owner, trial)
    assert latest(owner.rows())[0].attempt in (1, 2)


def test_failures_are_tried_again_only_when_asked(toy):
    sweep = toy.sweep({'model.x': {'values': [1.0]}})
    shared = toy.shared(sweep)
    shared.fill()
    fail(shared, shared.claim())
    assert shared.claim() is None and shared.finished() == 1
    again = toy.shared(sweep, retries=1)
    assert again.finished() == 0
    again.fill()
    fail(again, again.claim())
    assert again.claim() is None and again.finished() == 1
    assert [(row.number, row.attempt) for row in again.rows()] == [(0, 1), (1, 2)]


def test_an_interrupted_trial_is_always_tried_again(toy):
    shared = toy.shared(toy.sweep({'model.x': {'values': [1.0]}}))
    shared.fill()
    for _ in range(5):
        fail(shared, shared.claim(), 'interrupted')
    rows = shared.rows()
    assert rows[-1].state == 'waiting' and rows[-1].attempt == 6
    assert not finished_slots(rows, 0) and not due_again(rows, 0, 0)


def test_a_study_belongs_to_one_setting(toy):
    sweep = toy.sweep(GRID)
    setting = {'config': 'conf.py', 'settings': {'model.x': 0.0}, 'sweep': {'parameters': {'a': {'min': 1, 'max': 2}}}}
    toy.shared(sweep, setting=setting)
    assert toy.shared(sweep, setting=setting).seed == 0
    changes = {
        '`config`: "conf.py" there, "other.py" now': {'config': 'other.py'},
        '`settings.model.x`: 0.0 there, 0.5 now': {'settings': {'model.x': 0.5}},
        '`sweep.parameters.a.max`: 2 there, 3 now': {'sweep': {'parameters': {'a': {'min': 1, 'max': 3}}}},
        '`sweep.early_terminate`: null there': {
            'sweep': {**setting['sweep'], 'early_terminate': {'type': 'hyperband'}}
        },
    }
    for words, change in changes.items():
        with pytest.raises(UserError) as error:
            toy.shared(sweep, setting={**setting, **change})
        assert words in str(error.value) and 'give another --name' in str(error.value)
    with pytest.raises(UserError, match='`seed`: 0 there, 3 now'):
        toy.shared(sweep, setting=setting, seed=3)
    with pytest.raises(UserError, match=r'`metric.goal`: maximize there, minimize now'):
        toy.shared(toy.sweep(GRID, metric={'name': 'seg/mIoU'}), setting=setting)


def test_a_foreign_study_is_refused(toy):
    url = f'sqlite:///{toy.folder}/foreign.db'
    foreign = optuna.create_study(storage=url, study_name='toy', direction='maximize')
    foreign.tell(foreign.ask(), 1.0)
    with pytest.raises(UserError, match=r'not made by tools/sweep\.py'):
        toy.shared(toy.sweep(GRID), storage=url)


def test_target_and_best(toy):
    sweep = toy.sweep({'model.x': {'values': [1, 2, 3]}}, metric={'name': 'm', 'goal': 'maximize', 'target': 10})
    shared = toy.shared(sweep)
    shared.fill()
    assert best_row(shared.rows(), True) is None
    for value in (4.0, 9.0):
        trial = shared.claim()
        shared.report(trial, 1, value)
        complete(shared, trial, value)
    assert shared.target_row(shared.rows()) is None
    last = shared.claim()
    shared.report(last, 1, 11.0)
    assert shared.target_row(shared.rows()).number == 2
    complete(shared, last, 3.0)
    assert best_row(shared.rows(), True).number == 1 and best_row(shared.rows(), False).number == 2
