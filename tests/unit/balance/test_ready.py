from mesh.balance.ready import usable
from tests.kit.builders import endpoint

V4, V6 = "10.96.0.10", "fd00:96::10"


def test_only_ready_endpoints_of_the_vips_family_are_chosen():
    ready, other = endpoint("10.0.0.1"), endpoint("fd00::1")
    starting = endpoint("10.0.0.2", ready=False)
    assert usable([ready, other, starting], V4) == (ready,)
    assert usable([ready, other, starting], V6) == (other,)


def test_where_nothing_is_ready_a_terminating_one_serves_its_end():
    ending = endpoint("10.0.0.1", ready=False, last_resort=True)
    starting = endpoint("10.0.0.2", ready=False)
    six = endpoint("fd00::1")
    assert usable([ending, starting, six], V4) == (ending,)
    assert usable([ending, endpoint("10.0.0.3")], V4) == (endpoint("10.0.0.3"),)


def test_a_weight_of_nothing_is_never_chosen():
    assert usable([endpoint(weight=0)], V4) == ()
