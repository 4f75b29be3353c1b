import pytest

from mesh.kube.api.backoff import MOST_SECONDS, SLOW_SECONDS, delay


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
    assert delay(1, 0.5, slow=True) == delay(50, 0.5, slow=True) == SLOW_SECONDS
