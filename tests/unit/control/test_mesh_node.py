"""What a node says of itself: who comes in, who stays, who goes."""

from mesh.control import compile_mesh_node
from mesh.model import Mtls, Pod, Transport
from tests.kit.builders import pod


def listed(*pods: Pod, proven: str = "", before: str = "") -> str:
    came, were = ({f"uid-{name}" for name in names} for names in (proven, before))
    return "".join(each.name for each in compile_mesh_node("n1", pods, came, were, Transport.HBONE).workloads)


def test_a_pod_comes_in_with_the_proof_of_its_capture():
    several = pod("b"), pod("a"), pod("c")
    assert listed(*several) == ""
    assert listed(*several, proven="ab") == "ab"


def test_who_was_listed_stays_until_it_is_enrolled_no_more():
    """While it is not proven, a tunnel to it may fail; the alternative would be plaintext."""
    assert listed(pod("a"), pod("b"), proven="b", before="abc") == "ab"


def test_a_pod_that_accepts_no_tunnel_is_not_listed_and_one_that_became_so_no_more():
    assert listed(pod("a", mtls=Mtls.DISABLED), pod("b", mtls=Mtls.STRICT), proven="ab", before="a") == "b"


def test_it_is_said_whole_and_under_the_nodes_name():
    mine = pod("a", "10.0.0.1", "fd00::1")
    found = compile_mesh_node("n1", [mine], {"uid-a"}, (), Transport.QUIC)
    assert (found.name, found.workloads, found.transport) == ("n1", (mine.workload,), Transport.QUIC)
