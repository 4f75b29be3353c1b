import pytest

from mesh.kube.api.backoff import MOST_SECONDS, SLOW_FROM, SLOW_SECONDS, delay


def test_waits_grow_to_a_limit():
    waits = [delay(failures, 0.5) for failures in range(1, 60)]
    assert waits[:4] == [0.5, 1, 2, 4]
    assert waits == sorted(waits)
    assert waits[-1] == MOST_SECONDS


@pytest.mark.parametrize("failures", [1, 4, 1000])
def test_agents_are_spread_over_as_much_time_as_they_wait(failures):
    assert delay(failures, 1.0) - delay(failures, 0.0) == delay(failures, 0.5)
    assert delay(failures, 0.0) > 0


def test_what_waiting_does_not_mend_is_tried_once_a_minute():
    assert delay(SLOW_FROM, 0.5, slow=True) == delay(50, 0.5, slow=True) == SLOW_SECONDS


def test_a_server_that_is_starting_forbids_at_first_and_is_asked_again_soon():
    assert sum(delay(failures, 0.5, slow=True) for failures in range(1, 4)) < 4


def test_who_is_asked_to_wait_waits_as_long_and_no_shorter():
    assert delay(9, 0.0, asked=1) == 1
    assert delay(9, 1.0, asked=1) == 2
    assert delay(1, 0.0, asked=1e6) == MOST_SECONDS
