import pytest

from mesh.identity import issue
from mesh.identity.authority import Hanging, Root, RootState, Trust
from mesh.identity.certificate import Facts
from mesh.identity.holding import Held, Trouble, due, hanging

TRUST = Trust(
    generation=3,
    roots=(
        Root(id="old", certificate=b"", state=RootState.LEAVING, not_after=9e9, since=3),
        Root(id="new", certificate=b"", state=RootState.ISSUING, not_after=9e9, since=3),
    ),
)
KEY = issue.new_key()


def held(root="new", serial="aa", issued=0.0, until=1000.0, chance=0.5):
    facts = Facts(name="x", serial=serial, not_before=issued - 60, not_after=until, root=root)
    return Held(key=KEY, chain=(), facts=facts, issued=issued, chance=chance)


def is_due(what, trouble=None, denied=(), now=0.0, monotonic=0.0, switched=100.0):
    return due(what, trouble, TRUST, denied, switched, now, monotonic)


def test_what_is_not_there_is_due_and_what_is_fresh_is_not():
    assert is_due(None)
    assert not is_due(held())


def test_half_of_its_life_is_the_time():
    assert not is_due(held(), now=499.9)
    assert is_due(held(), now=500.0)


def test_a_clock_that_was_set_back_makes_it_worthless():
    """It was issued while the clock was a day ahead: peers would wait for tomorrow."""
    assert not is_due(held(issued=1000.0, until=2000.0), now=941.0)
    assert is_due(held(issued=1000.0, until=2000.0), now=939.0)


def test_a_denied_serial_number_is_replaced_at_once():
    assert is_due(held(serial="bb"), denied=("bb",))
    assert not is_due(held(serial="bb"), denied=("cc", "x"))


def test_a_root_that_issues_no_longer_is_left_within_seconds():
    assert not is_due(held(root="old"), monotonic=102.4)
    assert is_due(held(root="old"), monotonic=102.5)


@pytest.mark.parametrize("what", [None, held(), held(root="old"), held(until=1.0)])
def test_after_a_failure_its_pause_alone_counts(what):
    trouble = Trouble(failures=3, retry=50.0, sentence="no")
    assert not is_due(what, trouble, monotonic=49.9, now=1e6)
    assert is_due(what, trouble, monotonic=50.0)


def test_certificates_are_counted_by_the_root_they_hang_from():
    found = hanging([held("old", until=10.0), held("new", until=30.0), held("old", until=20.0)])
    assert found == (Hanging(root="new", count=1, until=30.0), Hanging(root="old", count=2, until=20.0))
