import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.balance.ewma import DECAY_SECONDS, DEFAULT_RTT_SECONDS, Load, pick

seconds = st.floats(0, 100, allow_nan=False)
loads = st.builds(Load, rtt=seconds, stamp=seconds, pending=st.integers(0, 1000))


@given(loads, seconds, seconds)
def test_a_slower_answer_counts_at_once_and_a_faster_one_by_and_by(load, rtt, later):
    now = load.stamp + later
    after = load.observe(rtt, now)
    assert after.rtt >= rtt
    assert after.rtt == pytest.approx(max(rtt, load.estimate(now, rtt)))
    assert after.rtt <= max(load.rtt, rtt) * (1 + 1e-9)


@given(loads, seconds)
def test_an_unused_endpoint_gets_cheaper_with_time_and_is_tried_again(load, later):
    assert load.cost(load.stamp + later) <= load.cost(load.stamp)


def test_after_the_decay_time_a_third_of_the_estimate_is_left():
    assert Load(rtt=1.0).estimate(DECAY_SECONDS) == pytest.approx(0.3679, abs=1e-4)


def test_a_clock_that_went_back_changes_nothing():
    assert Load(rtt=1.0, stamp=5.0).estimate(1.0) == 1.0


@given(st.lists(loads, max_size=8), st.integers())
def test_a_pick_is_one_of_two_different_ones_and_never_the_dearer(several, seed):
    drawn = random.Random(seed)
    chosen = pick(several, 200.0, drawn.randrange)
    if not several:
        assert chosen == -1
        return
    costs = [load.cost(200.0) for load in several]
    assert 0 <= chosen < len(several)
    if len(several) > 1:
        dearer = [cost for cost in costs if cost >= costs[chosen]]
        assert len(dearer) >= 2, "the dearest of all was taken although it met a cheaper one"


def test_the_faster_of_two_takes_most_of_the_traffic():
    """One request at a time, 1 ms against 10 ms: exploration is rare because the estimate decays over seconds."""
    drawn, now, counts = random.Random(7), 0.0, [0, 0]
    several = [Load(), Load()]
    for _ in range(5000):
        chosen = pick(several, now, drawn.randrange)
        counts[chosen] += 1
        rtt = (0.001, 0.010)[chosen]
        now += rtt
        several[chosen] = several[chosen].observe(rtt, now)
    assert counts[0] > 0.9 * sum(counts)


def test_an_endpoint_never_used_costs_a_second():
    assert Load().cost(0.0) == DEFAULT_RTT_SECONDS
