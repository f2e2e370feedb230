import time

from csrm_plugin.inference.benchmark.clocks import summarise, take_turns


def test_turns_are_taken_and_the_first_round_does_not_count():
    calls = []
    times = take_turns([lambda: calls.append('a'), lambda: (calls.append('b'), time.sleep(0.002))], 3)
    assert calls == ['a', 'b'] * 4
    assert [len(own) for own in times] == [3, 3] and min(times[1]) >= 0.002


def test_summary_by_hand():
    first, second = summarise([[1.0, 2.0, 4.0], [3.0, 2.0, 2.0]])
    assert first == dict(seconds=dict(median=2, min=1, max=4), ratio=dict(median=1, min=1, max=1))
    # round by round: 3, 1, 0.5, whose median is not that of the medians
    assert second == dict(seconds=dict(median=2, min=2, max=3), ratio=dict(median=1, min=0.5, max=3))
