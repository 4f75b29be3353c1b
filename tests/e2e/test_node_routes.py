"""Pods of two nodes reach each other by routes that the agents keep, whatever happens to routes, Nodes and agents."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from tests.kit import apps, wire
from tests.kit.enter import inside
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.network import Node, netlink
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

OURS, STATIC = 158, 4  # route protocols
FAMILIES = ["ip", "ip6"]


@dataclass
class Pair:
    """Node a has an agent. Node b has none, and the lab's own routes back to a."""

    lab: Lab
    a: Node
    b: Node
    client: Pod  # on a
    server: Pod  # on b
    talk: apps.Talk
    manifests: Manifests

    def asks(self, family: str = "ip", server: Pod | None = None) -> str:
        """What the server says who asked; the reason why not, if it cannot be reached."""
        address = getattr(server or self.server, family)
        try:
            with self.client.connect(address, self.talk.port) as sock, sock.makefile("rw") as stream:
                print("who", file=stream, flush=True)
                return stream.readline()
        except OSError as reason:
            return str(reason)

    def reaches(self, family: str = "ip", server: Pod | None = None) -> bool:
        return getattr(self.client, family) in self.asks(family, server)

    def restore(self) -> None:
        self.manifests.node(self.a).node(self.b)


@contextmanager
def paired(directory: Path) -> Iterator[Pair]:
    with Lab("routes") as lab:
        a, b = lab.make_node("a", routed=False), lab.make_node("b", routed=False)
        wire.add_routes(b, a)
        client, server = lab.pod("client", node=a), lab.pod("server", node=b)
        yield Pair(lab, a, b, client, server, apps.Talk(server), Manifests(directory, lab))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with paired(tmp_path_factory.mktemp("source")) as pair:
        yield pair


@pytest.fixture
def idle(tmp_path):
    """Another one, whose agents the test starts itself."""
    with paired(tmp_path) as pair:
        pair.restore()
        yield pair


@pytest.fixture(scope="module")
def enabled(pair):
    """The agent of node a, which shall route in any case."""
    pair.restore()
    with Mesh(pair.lab, pair.manifests, pair.a, node_routing="enabled") as mesh:
        yield mesh


@pytest.fixture
def mesh(pair, enabled):
    pair.restore()
    wait_standing(enabled, pair.b, "routed", "routed")
    yield enabled
    pair.restore()


def standings(mesh: Mesh, node: Node) -> list[str]:
    """IPv4's and IPv6's."""
    return [each["standing"] for each in mesh.status()["routing"]["neighbours"] if each["node"] == node.name]


def details(mesh: Mesh, node: Node) -> list[str]:
    return [each["detail"] for each in mesh.status()["routing"]["neighbours"] if each["node"] == node.name]


def wait_standing(mesh: Mesh, node: Node, *wanted: str) -> None:
    eventually(lambda: standings(mesh, node) == list(wanted), f"pods of {node.name} to be {wanted}", 10.0)


def routes(node: Node, protocol: int = OURS) -> dict[str, str]:
    """Destination -> gateway."""
    found = {}

    def read(ip: IPRoute) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            for each in ip.route("dump", family=family):
                if each["proto"] == protocol and each["table"] == 254:
                    found[f"{each.get('RTA_DST')}/{each['dst_len']}"] = each.get("RTA_GATEWAY")

    netlink(node.netns, read)
    return found


def change(node: Node, command: str, **route: object) -> None:
    netlink(node.netns, lambda ip: ip.route(command, **route))


def wanted(node: Node) -> dict[str, str]:
    return {node.subnet.cidr: node.address, node.subnet.cidr6: node.address6}


# --- routes


@pytest.mark.parametrize("family", FAMILIES)
def test_pods_of_the_other_node_are_reached_by_routes_of_ours(pair, mesh, family):
    assert pair.reaches(family)
    assert routes(pair.a) == wanted(pair.b), "and none to this node's own pods"
    assert mesh.metrics().value("seine_node_routes", standing="routed") == 2


def test_what_leads_there_is_shown(pair, mesh):
    shown = mesh.seine("nodes")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for cidr, gateway in wanted(pair.b).items():
        (line,) = [line for line in shown.stdout.splitlines() if cidr in line]
        assert line.split() == [pair.b.name, cidr, gateway, "eth0", "-", "routed"]


def test_a_route_that_somebody_deletes_comes_back(pair, mesh):
    before = mesh.metrics().value("seine_node_route_repairs_total")
    for cidr, family in zip(wanted(pair.b), FAMILIES, strict=True):
        change(pair.a, "del", dst=cidr)
        eventually(partial(pair.reaches, family), "the route to be back")
        assert f"repaired: the route to {cidr} was removed by somebody and is back" in mesh.log()
    assert routes(pair.a) == wanted(pair.b)
    assert mesh.metrics().value("seine_node_route_repairs_total") == before + 2


def test_routes_come_back_when_the_interface_was_down(pair, mesh):
    def switch(state: str) -> None:
        netlink(pair.a.netns, lambda ip: ip.link("set", index=ip.link_lookup(ifname="eth0")[0], state=state))

    switch("down")
    wait_standing(mesh, pair.b, "unreachable", "unreachable")
    assert routes(pair.a) == {}
    switch("up")
    netlink(pair.a.netns, lambda ip: _give_back_ipv6(ip, pair.a))
    wait_standing(mesh, pair.b, "routed", "routed")
    eventually(lambda: pair.reaches("ip") and pair.reaches("ip6"), "both families to work again")


def _give_back_ipv6(ip: IPRoute, node: Node) -> None:
    """The kernel forgets IPv6 addresses of an interface that goes down."""
    ip.addr("replace", index=ip.link_lookup(ifname="eth0")[0], address=node.address6, prefixlen=64, flags=2)


def test_a_path_for_small_packets_only_is_respected(pair, mesh):
    """Node b's card drops what is longer than 1400 bytes; its Node says so, and the route's size makes pods comply."""
    pair.lab.wire.lose(0)  # and with that, every segment is a packet of its own on the wire
    pair.lab.wire.set_mtu(1400, pair.b)
    try:
        assert not large_request_arrives(pair), "as it is, a large request never arrives"
        pair.manifests.node(pair.b, mtu=1400)
        eventually(lambda: [each["mtu"] for each in mesh.status()["routing"]["neighbours"]] == [1400, 1400], "the size")
        for family in FAMILIES:
            assert large_request_arrives(pair, family)
    finally:
        pair.lab.wire.set_mtu(1500)


def large_request_arrives(pair: Pair, family: str = "ip") -> bool:
    text = "x" * 5000
    try:
        with pair.client.connect(getattr(pair.server, family), pair.talk.port) as sock, sock.makefile("rw") as stream:
            print(f"echo {text}", file=stream, flush=True)
            return stream.readline() == f"{text}\n"
    except TimeoutError:
        return False


# --- policy routing


def test_a_rule_is_added_only_where_another_would_decide_before(pair, mesh):
    def rules(ip: IPRoute) -> list[tuple[int, str]]:
        return [(each.get("FRA_PRIORITY"), each.get("FRA_DST")) for each in ip.rule("dump", family=socket.AF_INET)
                if each.get("FRA_PROTOCOL") == OURS]  # fmt: skip

    def ours() -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        netlink(pair.a.netns, lambda ip: found.extend(rules(ip)))
        return found

    def vpn(ip: IPRoute, command: str) -> None:
        if command == "add":
            ip.route("add", dst=pair.b.subnet.cidr, type="unreachable", table=77)
        ip.rule(command, family=socket.AF_INET, table=77, priority=5270)
        if command == "del":
            ip.route("del", dst=pair.b.subnet.cidr, type="unreachable", table=77)

    assert ours() == []
    netlink(pair.a.netns, lambda ip: vpn(ip, "add"))
    destination = pair.b.subnet.ip(0)
    eventually(lambda: ours() == [(5269, destination)], "our rule before the other")
    eventually(pair.reaches, "pods past the other rule")
    netlink(pair.a.netns, lambda ip: ip.rule("del", family=socket.AF_INET, table=254, priority=5269))
    eventually(pair.reaches, "the rule that somebody deleted to be back")
    netlink(pair.a.netns, lambda ip: vpn(ip, "del"))
    eventually(lambda: ours() == [], "our rule to go with its reason")
    assert pair.reaches()


# --- other people's routes


def test_another_route_to_the_same_pods_is_left_alone(pair, mesh):
    nowhere = pair.lab.wire.subnet.ip(99)
    change(pair.a, "add", dst=pair.b.subnet.cidr, gateway=nowhere, proto=STATIC)
    try:
        wait_standing(mesh, pair.b, "conflict", "routed")
        assert routes(pair.a, STATIC) == {pair.b.subnet.cidr: nowhere}
        assert pair.b.subnet.cidr not in routes(pair.a)
        expected = f"{pair.b.subnet.cidr} is routed via {nowhere} by somebody else (static); that one stays"
        assert expected in details(mesh, pair.b)[0]
        assert mesh.metrics().value("seine_node_routes", standing="conflict") == 1
        shown = mesh.seine("nodes")
        assert shown.returncode == 1
        assert expected in shown.stdout
        assert expected in mesh.seine("status").stdout
    finally:
        change(pair.a, "del", dst=pair.b.subnet.cidr, proto=STATIC)
    wait_standing(mesh, pair.b, "routed", "routed")
    assert pair.reaches()


def test_routes_of_others_to_other_places_are_none_of_our_business(pair, mesh):
    change(pair.a, "add", dst="203.0.113.0/24", gateway=pair.b.address, proto=STATIC)
    change(pair.a, "add", dst="10.0.0.0/8", gateway=pair.lab.wire.subnet.ip(99), proto=STATIC)
    try:
        change(pair.a, "del", dst=pair.b.subnet.cidr, proto=OURS)
        eventually(pair.reaches, "our route, the more exact one, to be back")
        assert len(routes(pair.a, STATIC)) == 2
    finally:
        change(pair.a, "del", dst="203.0.113.0/24")
        change(pair.a, "del", dst="10.0.0.0/8")


# --- Nodes that change


def test_a_node_that_is_on_no_common_network_is_refused_alone(pair, mesh):
    far = pair.lab.make_node("far", routed=False)
    pair.manifests.node(far, addresses=["192.0.2.77"])
    wait_standing(mesh, far, "unreachable", "unreachable")
    four, six = details(mesh, far)
    assert f"192.0.2.77, the InternalIP of node {far.name}, is on no network that this machine is connected to" in four
    assert f"node {far.name} has no IPv6 InternalIP" in six
    assert pair.reaches("ip")
    assert pair.reaches("ip6")
    assert "192.0.2.77" in mesh.log()
    pair.manifests.remove(f"node-{far.name}")
    eventually(lambda: standings(mesh, far) == [], "the node to be forgotten")


def test_a_node_that_changes_its_address_is_followed(pair, mesh):
    old = wanted(pair.b)
    assert pair.reaches()
    pair.lab.wire.renumber(pair.b, 50)
    wire.add_routes(pair.b, pair.a)
    try:
        forget_neighbour(pair.a, old[pair.b.subnet.cidr])
        assert not pair.reaches(), "the Node still says the old address"
        pair.manifests.node(pair.b)
        eventually(lambda: pair.reaches("ip") and pair.reaches("ip6"), "the pods by the node's new address", 10.0)
        assert routes(pair.a) == wanted(pair.b) != old
    finally:
        pair.lab.wire.renumber(pair.b, 2)
        wire.add_routes(pair.b, pair.a)


def forget_neighbour(node: Node, address: str) -> None:
    """Whose card it was is known for a while, and that card still is there."""
    netlink(node.netns, lambda ip: ip.neigh("del", dst=address, ifindex=ip.link_lookup(ifname="eth0")[0]))


def test_pods_addresses_that_move_to_another_node_are_followed(pair, mesh):
    """Node c takes node b's networks of pods over, and the pods with it."""
    c = pair.lab.make_node("c", routed=False)
    wire.add_routes(c, pair.a)
    successor = Node(c.name, "successor", pair.b.subnet, c.netns, next_host=100)
    successor.build(pair.lab._undo)
    moved = pair.lab.pod("moved", node=successor)
    apps.Talk(moved)
    assert not pair.reaches(server=moved), "its address is node b's"
    pair.manifests.node(pair.b, cidrs=[]).node(c, cidrs=[pair.b.subnet.cidr, pair.b.subnet.cidr6])
    for family in FAMILIES:
        eventually(partial(pair.reaches, family, moved), "the pod at its new node", 10.0)
    assert routes(pair.a) == {pair.b.subnet.cidr: c.address, pair.b.subnet.cidr6: c.address6}
    pair.manifests.remove(f"node-{c.name}").node(pair.b)
    eventually(pair.reaches, "node b to have them again", 10.0)


def test_a_node_that_is_deleted_is_routed_no_longer_and_others_are(pair, mesh):
    d = pair.lab.make_node("d", routed=False)
    wire.add_routes(d, pair.a)
    other = pair.lab.pod("other", node=d)
    apps.Talk(other)
    pair.manifests.node(d).remove(f"node-{pair.b.name}")
    eventually(lambda: routes(pair.a) == wanted(d), "only node d's pods to be routed", 10.0)
    assert pair.reaches(server=other)
    assert "unreachable" in pair.asks()
    pair.manifests.remove(f"node-{d.name}")
    eventually(lambda: routes(pair.a) == {}, "nothing to be routed", 10.0)


def test_pods_that_claim_the_nodes_own_network_are_refused(pair, mesh):
    e = pair.lab.make_node("e", routed=False)
    around = ipaddress.ip_network(f"{pair.lab.wire.subnet.ip(0)}/16", strict=False)
    pair.manifests.node(e, cidrs=[str(around)])
    wait_standing(mesh, e, "unreachable")
    assert "which a route would cut off" in details(mesh, e)[0]
    assert pair.reaches()
    pair.manifests.remove(f"node-{e.name}")


# --- agents that come and go


def test_routes_outlive_the_agent_and_the_next_one_goes_on_with_them(pair, mesh):
    mesh.kill_agent()
    assert routes(pair.a) == wanted(pair.b)
    assert pair.reaches()
    change(pair.a, "del", dst=pair.b.subnet.cidr6, proto=OURS)
    mesh.heal()
    eventually(lambda: pair.reaches("ip6"), "the next agent to put back what was deleted meanwhile", 10.0)
    assert pair.reaches("ip")


def test_one_agent_per_network_namespace_keeps_routes(pair, mesh):
    """Another one of another name says so, and takes nothing away when it leaves."""
    second = Node(f"{pair.a.name}-2", pair.a.bridge, pair.a.subnet, pair.a.netns)
    with Mesh(pair.lab, pair.manifests, second, node_routing="enabled") as other:
        eventually(lambda: other.status()["routing"]["problem"], "the second agent to give up")
        assert "another agent keeps the routes of this network namespace" in other.seine("nodes").stdout
    assert routes(pair.a) == wanted(pair.b)
    assert pair.reaches()


def test_leaving_takes_the_routes_out_and_nobody_elses(idle):
    change(idle.a, "add", dst="203.0.113.0/24", gateway=idle.b.address, proto=STATIC)
    with Mesh(idle.lab, idle.manifests, idle.a) as mesh:
        wait_standing(mesh, idle.b, "routed", "routed")
        mesh.agent.stop()
        assert routes(idle.a) == wanted(idle.b), "ending the agent is not leaving"
        done = mesh.seine("clean").stdout
        assert f"removed the route to {idle.b.subnet.cidr} via {idle.b.address}" in done
    assert routes(idle.a) == {}
    assert len(routes(idle.a, STATIC)) == 1


def test_an_agent_that_shall_not_route_takes_its_predecessors_routes_out(idle):
    with Mesh(idle.lab, idle.manifests, idle.a) as mesh:
        wait_standing(mesh, idle.b, "routed", "routed")
        mesh.agent.stop()
        mesh.settings["SEINE_NODE_ROUTING"] = "disabled"
        mesh.start()
        eventually(lambda: routes(idle.a) == {}, "the routes to be gone")
        assert mesh.status()["routing"]["neighbours"] == []
        assert "node routing is disabled" in mesh.seine("nodes").stdout
    assert "unreachable" in idle.asks()


# --- where a CNI routes


def test_where_somebody_else_routes_pods_the_default_is_to_route_none(idle):
    """Of that family: node c, which the other does not route yet, is left to him as well."""
    c = idle.lab.make_node("c", routed=False)
    idle.manifests.node(c)
    change(idle.a, "add", dst=idle.b.subnet.cidr, gateway=idle.b.address, proto=STATIC)
    with Mesh(idle.lab, idle.manifests, idle.a) as mesh:
        wait_standing(mesh, idle.b, "others", "routed")
        wait_standing(mesh, c, "others", "routed")
        assert set(routes(idle.a)) == {idle.b.subnet.cidr6, c.subnet.cidr6}
        assert "so all routes to IPv4 pods are left to others" in details(mesh, c)[0]
        assert mesh.seine("nodes").returncode == 0, "that is as it should be"
        assert idle.reaches("ip")
        assert idle.reaches("ip6")
        change(idle.a, "del", dst=idle.b.subnet.cidr)
        wait_standing(mesh, idle.b, "routed", "routed")
        assert idle.reaches()


def test_a_cni_that_comes_later_finds_no_route_in_its_way(idle):
    with Mesh(idle.lab, idle.manifests, idle.a) as mesh:
        wait_standing(mesh, idle.b, "routed", "routed")
        change(idle.a, "add", dst=idle.b.subnet.cidr, gateway=idle.b.address, proto=STATIC)  # no "file exists"
        wait_standing(mesh, idle.b, "others", "routed")
        assert set(routes(idle.a)) == {idle.b.subnet.cidr6}
        assert idle.reaches()


def test_a_default_route_is_not_a_route_to_pods(idle):
    change(idle.a, "add", dst="0.0.0.0/0", gateway=idle.lab.wire.subnet.ip(99), proto=STATIC)
    with Mesh(idle.lab, idle.manifests, idle.a) as mesh:
        wait_standing(mesh, idle.b, "routed", "routed")
        assert idle.reaches()


def test_a_machine_that_does_not_forward_is_told(idle):
    name = Path("/proc/sys/net/ipv4/ip_forward")
    inside(idle.a.netns, lambda: name.write_text("0"))
    with Mesh(idle.lab, idle.manifests, idle.a) as mesh:
        wait_standing(mesh, idle.b, "routed", "routed")
        four, six = details(mesh, idle.b)
        assert "does not forward IPv4" in four
        assert six == ""


def test_two_agents_route_to_each_other(idle):
    """As it is in a cluster: the lab's own routes back are gone."""
    for cidr in wanted(idle.a):
        change(idle.b, "del", dst=cidr)
    assert not idle.reaches()
    with Mesh(idle.lab, idle.manifests, idle.a), Mesh(idle.lab, idle.manifests, idle.b):
        for family in FAMILIES:
            eventually(partial(idle.reaches, family), "pods of both nodes to meet", 10.0)
