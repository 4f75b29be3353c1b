from mesh.control.select import addressed, pod_of, uid_of
from tests.kit.builders import endpoint, mesh_node, snapshot, workload


def test_of_two_that_claim_an_address_the_first_has_it():
    first, second = workload("a", "10.0.0.1"), workload("b", "10.0.0.1", "10.0.0.2")
    assert addressed(snapshot(first, second)) == {"10.0.0.1": first, "10.0.0.2": second}


def test_what_another_node_says_of_an_address_counts_where_we_know_nobody():
    ours, theirs = workload("a", "10.0.0.1"), workload("b", "10.0.0.1", "10.0.0.2")
    assert addressed(snapshot(ours, nodes=(mesh_node("n1", theirs),))) == {"10.0.0.1": ours, "10.0.0.2": theirs}


def test_an_endpoint_is_the_pod_at_its_address_unless_their_uids_differ():
    pods = {"10.0.0.1": workload("a", "10.0.0.1")}
    for uid, is_it, known_as in (("", True, "uid-a"), ("uid-a", True, "uid-a"), ("uid-b", False, "uid-b")):
        each = endpoint("10.0.0.1", workload_uid=uid)
        assert (pod_of(each, pods) is not None, uid_of(each, pods)) == (is_it, known_as)
    assert uid_of(endpoint("10.0.0.9"), pods) == ""
