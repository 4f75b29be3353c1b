import pytest

from mesh.identity import renewal

DAY = 86400.0


@pytest.mark.parametrize(("chance", "at"), [(0.0, 0.4), (0.5, 0.5), (0.999999, 0.6)])
def test_a_certificate_is_renewed_around_half_of_its_life(chance, at):
    assert renewal.renewal(1000.0, 1000.0 + DAY, chance) == pytest.approx(1000.0 + at * DAY, abs=1)


def test_half_of_a_clamped_life_counts_too():
    assert renewal.renewal(0.0, 10.0, 0.5) == 5.0


def test_nodes_leave_a_root_one_after_the_other_within_seconds():
    assert [renewal.reissue(100.0, chance) for chance in (0.0, 0.5)] == [100.0, 102.5]


def test_pauses_double_up_to_a_limit_and_chance_halves_them_at_most():
    assert [renewal.retry(n, 60.0, 1.0) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert [renewal.retry(n, 60.0, 0.0) for n in (1, 2, 3, 7, 1000)] == [0.5, 1, 2, 30, 30]
