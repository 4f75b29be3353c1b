"""What a peer may send is what was taken plus a window; the window grows only for who earns it, out of one budget."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.forward.quic.windows import Budget, Window

RTT = 0.02


def test_credit_follows_what_was_taken_in_halves_of_a_window() -> None:
    window = Window(Budget(0), start=100, most=400)
    assert window.limit == 100
    assert not window.take(49, 0, now=0, rtt=RTT)
    assert window.limit == 100
    assert window.take(1, 0, now=0, rtt=RTT)
    assert window.limit == 150


def test_a_reader_that_keeps_up_gets_twice_as_much_until_the_most() -> None:
    window, now = Window(Budget(10_000), start=100, most=400), 0.0
    for _ in range(10):
        window.take(window.size // 2, 0, now, RTT)
        now += RTT
    assert window.size == 400
    assert window.limit == window.taken + 400


def test_a_reader_that_leaves_bytes_waiting_or_takes_its_time_keeps_the_first_window() -> None:
    waiting, slow = Window(Budget(10_000), 100, 400), Window(Budget(10_000), 100, 400)
    now = 0.0
    for _ in range(10):
        waiting.take(50, 10, now, RTT)
        slow.take(50, 0, now, RTT)
        now += 3 * RTT
    for _ in range(10):
        waiting.take(50, 10, now, RTT)
    assert (waiting.size, slow.size) == (100, 100)


def test_streams_share_one_budget_and_give_back_what_they_had() -> None:
    budget = Budget(100)
    first, second = Window(budget, 100, 400), Window(budget, 100, 400)
    for window in (first, second):
        window.take(50, 0, 0.0, RTT)
        window.take(50, 0, 0.001, RTT)
    assert (first.size, second.size, budget.left) == (200, 100, 0)
    first.close()
    assert budget.left == 100
    second.take(50, 0, 0.002, RTT)
    assert second.size == 200


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 50), st.floats(0, 0.1)), max_size=60),
    st.integers(0, 1000),
)
def test_never_is_more_under_way_than_the_window_nor_the_windows_more_than_the_budget(
    steps: list[tuple[int, int, float]], size: int
) -> None:
    budget = Budget(size)
    windows = [Window(budget, 64, 1024) for _ in range(3)]
    now = 0.0
    for number, (count, waiting, pause) in enumerate(steps):
        window = windows[number % 3]
        now += pause
        window.take(min(count, window.limit - window.taken), waiting, now, RTT)
        assert window.taken <= window.limit <= window.taken + window.size
        assert sum(each.size - 64 for each in windows) + budget.left == size
