from __future__ import annotations

import msgspec
import pytest
from rich.console import Console, RenderableType

from mesh.cli.screen import (
    capture_line,
    head,
    identity_lines,
    nodes_screen,
    peers_lines,
    quic_lines,
    routing_lines,
    screen,
    shares,
    shortcut_lines,
)
from mesh.model import PodState, Transport
from mesh.node.routing import Neighbour, Standing
from mesh.observe.rates import Share
from mesh.observe.status import (
    AnnouncedStatus,
    EndpointStatus,
    NodesDocument,
    PeerStatus,
    PodStatus,
    QuicStatus,
    QuicWay,
    RoutingStatus,
    ShortcutStatus,
    SourceStatus,
)
from tests.unit.observe.values import document, identity, service


def printed(what: RenderableType) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def squeezed(what: RenderableType) -> str:
    """One space between words: how wide a column is, is rich's business."""
    return "\n".join(" ".join(line.split()) for line in printed(what).splitlines())


def test_two_documents_make_the_whole_screen() -> None:
    ends = (
        EndpointStatus(namespace="shop", pod="web-1", requests=75),
        EndpointStatus(namespace="shop", pod="web-2", requests=25),
    )
    before = document(taken_at=998.0, services=(service(requests=0, failures=0, histogram=()),))
    now = document(services=(service(requests=100, failures=1, histogram=(50, 50, 0, 0), opened=4, endpoints=ends),))
    assert squeezed(screen(now, before)) == (
        "seine 0.1.0 on node n1: agent 77 up 2m, kernel 6.18.0\n"
        "2 of 2 pods captured by eBPF (connect and sk_lookup hooks): 12 connections carried by 1 worker, 3 bypassing; "
        "no sidecar, no iptables\n"
        "\n"
        "NAMESPACE POD STATE FAIL MODE CAPTURED BYPASSING MTLS IDENTITY DETAIL\n"
        "shop client-0 captured open 12 0 permissive -\n"
        "shop web-1 bypassing 3 closed 0 3 strict ns/shop/sa/web\n"
        "\n"
        "NAMESPACE SERVICE REQ/S SUCCESS P50 P95 P99 OPEN REQUESTS FAILED CONNECTIONS ENDPOINTS\n"
        "shop web 50.0 99.00% 0.1 ms 0.9 ms 1.0 ms 4 100 1 4 web-1 75%, web-2 25%\n"
        "\n"
        "WORKER PID STATE HEARTBEAT RESTARTS\n"
        "0 78 up 0.1 s ago 0\n"
        "1 - down - 2"
    )


def test_the_short_cut_has_a_line_when_a_pod_asks_for_it() -> None:
    counts = {"shortcut_joined": 4, "shortcut_messages": 1200, "shortcut_bytes": 34567, "shortcut_credit": 1}
    asking = [
        PodStatus(namespace="shop", name=name, state=PodState.CAPTURED, shortcut=True, kernel=counts) for name in "ab"
    ]
    on, off = ShortcutStatus(available=True), ShortcutStatus(detail="it is switched off on this node")
    assert "short-cut" not in printed(screen(document(shortcut=on)))
    (line,) = shortcut_lines(document(pods=tuple(asking), shortcut=on))
    assert line.plain == "short-cut for 2 pods: 2,400 messages, 69,134 bytes past TCP; fallen back to TCP: credit 2"
    (line,) = shortcut_lines(document(pods=tuple(asking[:1]), shortcut=off))
    assert line.plain == "short-cut asked for by 1 pod, but off: it is switched off on this node"


def test_several_nodes_have_a_line_and_another_for_what_is_wrong() -> None:
    peers = (PeerStatus(node="n2", workloads=2), PeerStatus(node="n3", transport=Transport.QUIC, workloads=1))
    told = AnnouncedStatus(path="/x.yaml", workloads=4)
    assert peers_lines(document()) == []
    assert [line.plain for line in peers_lines(document(peers=peers, announced=told))] == [
        "trust domain cluster.local: 2 other nodes with 3 pods, 4 of ours are told to the others"
    ]
    assert "1 other node with 2 pods, the others are told nothing" in printed(screen(document(peers=peers[:1])))
    failed = AnnouncedStatus(path="/x.yaml", problem="/x.yaml cannot be written: No space left on device")
    assert "No space left" in printed(screen(document(announced=failed)))


def test_an_empty_node_says_so() -> None:
    text = printed(screen(document(pods=(), services=(), workers=())))
    assert text.endswith("no pods: none of the source's is on this node\n\nno services\n\nno workers")


def test_unknown_numbers_are_dashes_not_zeros() -> None:
    (line,) = [row for row in printed(screen(document(services=(service(),)))).splitlines() if " web " in row]
    assert line.split()[2] == "-"


@pytest.mark.parametrize("state", PodState)
def test_every_state_is_shown_with_its_reason(state: PodState) -> None:
    pod = PodStatus(namespace="shop", name="p", state=state, detail="because")
    text = printed(screen(document(pods=(pod,))))
    assert f"{state}" in text
    assert "because" in text


def test_problems_come_last() -> None:
    source = SourceStatus(errors=("web.yaml:3: no such kind",), warnings=("web.yaml:9: odd",))
    lines = printed(screen(document(source=source, repairs=("connect4 attached again",)))).splitlines()[-4:]
    assert lines[1:] == ["  web.yaml:3: no such kind", "warning: web.yaml:9: odd", "repaired: connect4 attached again"]


def test_on_eighty_columns_no_number_is_cut() -> None:
    pods = tuple(PodStatus(namespace="shop", name=f"web-{n}", state=PodState.CAPTURED, captured=12345) for n in "ab")
    busy = service(requests=1_234_567, opened=98_765, closed=1)
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(screen(document(pods=pods, services=(busy,), taken_at=1010.0), document(taken_at=1000.0)))
    text = capture.get()
    assert "…" not in text
    assert "12,345" in text
    assert "123,456.7" in text


def test_markup_in_names_is_text() -> None:
    """Whatever stands in an object's name must not be read as rich's markup."""
    pod = PodStatus(namespace="shop", name="[bold]x[/]", state=PodState.CAPTURED, detail="[red]y")
    text = printed(screen(document(pods=(pod,))))
    assert "[bold]x[/]" in text
    assert "[red]y" in text


def test_only_the_busiest_endpoints_are_named() -> None:
    many = [Share("shop", f"web-{n}", n / 21, n, 0) for n in range(1, 7)]
    assert shares(many) == "web-6 29%, web-5 24%, web-4 19%, web-3 14% and 2 more"


def test_head_names_what_was_adopted() -> None:
    adopted = msgspec.structs.replace(document(), adopted=True, uptime_seconds=7200)
    assert str(head(adopted)).endswith("up 2h, kernel 6.18.0, hooks of a former agent adopted")
    assert str(capture_line(document(pods=()))).startswith("0 of 0 pods")


NEIGHBOURS = (
    Neighbour(node="n2", cidr="10.0.2.0/24", gateway="192.0.2.2", standing=Standing.ROUTED, interface="eth0", mtu=1400),
    Neighbour(node="n3", cidr="10.0.3.0/24", gateway="", standing=Standing.UNREACHABLE, detail="no [way]"),
)


def test_the_other_nodes_have_a_line_each() -> None:
    assert squeezed(nodes_screen(NodesDocument(mode="auto", neighbours=NEIGHBOURS, repairs_total=1))) == (
        "node routing is auto\n"
        "1 route removed by somebody and put back\n"
        "\n"
        "NODE PODS VIA DEVICE MTU STANDING DETAIL\n"
        "n2 10.0.2.0/24 192.0.2.2 eth0 1400 routed\n"
        "n3 10.0.3.0/24 - - - unreachable no [way]"
    )


def test_without_other_nodes_a_sentence_says_so() -> None:
    assert "no Node of the source but this one has pods" in printed(nodes_screen(NodesDocument(mode="auto")))
    assert "another agent" in printed(nodes_screen(NodesDocument(mode="auto", problem="another agent")))


def test_the_other_nodes_lists_are_named_and_one_that_is_missing_has_its_sentence() -> None:
    peers = (
        PeerStatus(node="n2", workloads=3),
        PeerStatus(node="n3", transport=Transport.QUIC, workloads=1, missing_seconds=5.0, problem="it is gone"),
        PeerStatus(node="n4", transport=Transport.QUIC, workloads=2, used=Transport.QUIC),
        PeerStatus(node="n5", transport=Transport.QUIC, workloads=4, detour="192.0.2.5:15008 did not answer over UDP"),
    )
    assert squeezed(nodes_screen(NodesDocument(mode="auto", peers=peers))).endswith(
        "NODE TRANSPORT IN THE MESH LIST DETAIL\nn2 hbone 3 there\nn3 hbone (asks for quic) 1 missing it is gone\n"
        "n4 quic 2 there\nn5 hbone (asks for quic) 4 there 192.0.2.5:15008 did not answer over UDP"
    )
    assert "it is gone" in printed(screen(document(peers=peers)))


def test_the_status_tells_only_of_nodes_that_are_not_reached() -> None:
    well = RoutingStatus(mode="auto", neighbours=NEIGHBOURS[:1])
    assert routing_lines(well) == []
    (line,) = routing_lines(RoutingStatus(neighbours=NEIGHBOURS))
    assert line.plain == "pods of node n3, 10.0.3.0/24: no [way]"
    (line,) = routing_lines(RoutingStatus(neighbours=NEIGHBOURS[1:] * 3))
    assert line.plain.endswith("(and 2 more, see `seine nodes`)")
    assert "routes to other nodes: why" in printed(screen(document(routing=RoutingStatus(problem="why"))))


def test_identities_are_one_line_and_another_for_each_thing_that_is_wrong() -> None:
    assert identity_lines(document()) == []
    lines = [str(line) for line in identity_lines(document(identity=identity(problem="no route to host")))]
    assert lines == [
        "1 of 2 certificates from aa00 (issuing), the next one ends in 1m",
        "connection refused",
        "no route to host",
    ]
    missing = document(identity=identity(certificates=identity().certificates[:1], roots=()))
    assert str(identity_lines(missing)[0]) == "0 of 1 certificate from no root"


def test_quic_has_a_line_where_it_is_asked_for_and_one_per_node_that_goes_by_hbone() -> None:
    assert quic_lines(document()) == []
    ways = (
        QuicWay(node="192.0.2.1:15008"),
        QuicWay(node="192.0.2.2:15008", way="hbone", reason="it did not answer over UDP", seconds=40),
    )
    quic = QuicStatus(wanted=True, up=True, levels={"connections": 2, "streams": 1}, ways=ways)
    assert [line.plain for line in quic_lines(document(quic=quic))] == [
        "QUIC: 2 connections, 1 stream",
        "192.0.2.2:15008 by HBONE: it did not answer over UDP, tried again in 40s",
    ]
    away = QuicStatus(wanted=True, problem="UDP port 15008 cannot be had")
    assert [line.plain for line in quic_lines(document(quic=away))] == [
        "QUIC: its process is not up, all goes by HBONE",
        "UDP port 15008 cannot be had",
    ]
