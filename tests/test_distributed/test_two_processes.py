"""Two processes with half a batch each do what one process does with the whole batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope='module')
def results(tmp_path_factory, request):
    """What both processes of `worker.py`, and one on its own, found."""
    folder = tmp_path_factory.mktemp('two_processes')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    runs = {}
    for name, rank, size in (('one', 0, 1), ('rank0', 0, 2), ('rank1', 1, 2)):
        environment = os.environ | dict(
            RANK=str(rank),
            WORLD_SIZE=str(size),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
            OMP_NUM_THREADS='1',
            PYTHONPATH=str(request.config.rootpath),
        )
        command = [sys.executable, str(Path(__file__).with_name('worker.py')), str(folder / f'{name}.pt')]
        runs[name] = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    found = {}
    for name, run in runs.items():
        try:
            _, stderr = run.communicate(timeout=240)
        finally:
            run.kill()
        assert run.returncode == 0, f'{name}: {stderr}'
        found[name] = torch.load(folder / f'{name}.pt')
    return found


def check_average(results, key, **tolerance):
    """The average over the ranks, which DistributedDataParallel takes of gradients, is what one process has."""
    for name, expected in results['one'][key].items():
        both = [results[rank][key][name] for rank in ('rank0', 'rank1')]
        torch.testing.assert_close(sum(both) / 2, expected, msg=lambda text, name=name: f'{name}: {text}', **tolerance)


def test_quantiles_are_global(results):
    assert results['rank0']['quantiles'].equal(results['one']['quantiles'])
    assert results['rank1']['quantiles'].equal(results['one']['quantiles'])


def test_quantiles_of_no_values_anywhere(results):
    assert all(result['no_quantiles'].isnan().all() for result in results.values())


def test_masks_by_entropy_are_global(results):
    for key in ('reliable', 'low', 'high'):
        halves = torch.cat([results['rank0'][key], results['rank1'][key]])
        assert halves.equal(results['one'][key]), key
        assert results['rank0'][key].sum() != results['rank1'][key].sum(), 'or the test would see nothing'


def test_fractions_are_global(results):
    assert len({result['fraction'] for result in results.values()}) == 1


@pytest.mark.parametrize('key', ['losses', 'gradients'])
def test_losses_and_gradients_average_to_those_of_one_process(results, key):
    check_average(results, key, rtol=1e-4, atol=1e-7)
    mutual = {'affinity', 'map_distance', 'spatial_kl', 'affinity_kl'}
    contrast = {f'{rule}{step}' for rule in ('reliable', 'low_entropy') for step in (1, 2, 3)}
    assert set(results['one'][key]) == {'masked_mean', 's', 's2c', 'u'} | mutual | contrast
    assert all(value.abs().sum() > 0 for value in results['one'][key].values())


def test_bank_is_the_same_on_every_rank_and_that_of_one_process(results):
    for rule, bank in results['one']['bank'].items():
        for name, expected in bank.items():
            assert results['rank0']['bank'][rule][name].equal(expected), name
            assert results['rank1']['bank'][rule][name].equal(expected), name
        assert bank['sizes'].sum() > 100


def test_statistics_of_the_contrastive_term_are_global(results):
    for key, expected in results['one']['contrast'].items():
        for name in ('num_classes', 'chance', 'positive', 'negative'):
            for rank in ('rank0', 'rank1'):
                torch.testing.assert_close(results[rank]['contrast'][key][name], expected[name], rtol=1e-5, atol=1e-6)
            assert expected[name] != 0, name


def test_classes_with_queries_are_counted_over_all_ranks(results):
    """One class on each rank is enough, if they are two; one in all of the batch teaches nothing on any rank."""
    for rank in ('one', 'rank0', 'rank1'):
        classes, loss, moved = results[rank]['few_classes']['apart']
        assert classes == 2 and loss > 0 and moved > 0
        for name in ('alike', 'alone'):
            assert results[rank]['few_classes'][name] == (0, 0, 0), (rank, name)


def test_full_bank_is_the_same_on_every_rank(results):
    """Where a class has more keys than fit, the choice may differ from one process's, but not between the ranks."""
    for name, value in results['rank0']['small_bank'].items():
        assert value.equal(results['rank1']['small_bank'][name]), name
    assert results['rank0']['small_bank']['sizes'].eq(results['one']['small_bank']['sizes']).all()
    from_both = results['rank0']['small_bank_origins']
    assert 0.2 < from_both < 0.8, 'keys of both ranks are chosen'


def test_loss_that_is_not_finite_on_one_rank_stops_both(results):
    assert 'loss_b' in results['rank1']['stopped']
    assert 'on another process' in results['rank0']['stopped']
    assert results['one']['stopped'] is None


def test_training_step_under_distributed_data_parallel(results):
    """With and without a term, in and after the warm-up: no parameter is waited for in vain, and all ranks agree.

    They do so in every buffer, too: statistics of batch normalisation, the whole teacher, the memory bank. Weights are
    those of rank 0 from the start, though each rank draws its own.
    """
    assert len(results['rank0']['trained']) == 2 * 4
    for key, state in results['rank0']['trained'].items():
        for name, value in state.items():
            assert value.equal(results['rank1']['trained'][key][name]), (key, name)
            assert value.isfinite().all()
        statistics = [name for name in state if name.endswith('running_var')]
        # CSRM has them in backbone and heads of student and teacher, RML in the backbone and its context head.
        assert len(statistics) > 20 if key[0] == 'CSRM' else len(statistics) == 2
        if key[1] is None:  # every head has been used, and not only the backbone
            assert not any(state[name].eq(1).all() for name in statistics)


def test_ranks_draw_mixtures_of_their_own(results):
    drawn = [results[rank]['drawn']['CSRM', None] for rank in ('rank0', 'rank1')]
    assert len(drawn[0]) == len(drawn[1]) > 0
    assert any(mask.any() for mask in drawn[0])
    assert any(not one.equal(other) for one, other in zip(*drawn))


def test_training_with_halves_is_training_with_the_whole(results):
    """Weights, statistics and the teacher, where nothing is drawn at random."""
    one = results['one']['alike']
    for rank in ('rank0', 'rank1'):
        assert results[rank]['alike'].keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(
                results[rank]['alike'][name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}'
            )
