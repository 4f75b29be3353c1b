"""A pod's policies at work: connections and requests that are let through or not, told, counted, and ended later."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mesh.forward.engine import RulingsReady
from mesh.model import Authorization, AuthorizationPolicy, Direction, Protocol
from tests.engine.rig import SLOT, SOURCE, Peer, Rig, Server
from tests.engine.web import GET, OK, answered, asked, exchange, get
from tests.kit.builders import policy, rule

POD = 7
CLIENT = "cluster.local/ns/shop/sa/client"
DENY_ALL = policy("nobody", "DENY", rule())
ALLOW_NONE = policy("none", "ALLOW")
ALLOW_ALL = policy("all", "ALLOW", rule())


@pytest.fixture
def quick() -> Iterator[Rig]:
    """With little patience for clients that do not speak."""
    with Rig(detect_hold_ms=40) as made:
        yield made


def serving(
    rig: Rig, *policies: AuthorizationPolicy, protocol: Protocol = Protocol.DETECT, deny: bool = False
) -> Server:
    """An app in a pod of this node, called by a pod with an identity."""
    rig.engine.add_pod(SLOT, SOURCE, principal=f"spiffe://{CLIENT}")
    rig.engine.add_pod(POD, 1)
    server = Server(rig)
    rig.plan(server.endpoint(slot=POD), protocol=protocol)
    say(rig, *policies, deny=deny)
    return server


def say(rig: Rig, *policies: AuthorizationPolicy, deny: bool = False) -> None:
    rig.engine.set_policies(POD, Authorization(policies=policies, default_deny=deny))


def inbound(rig: Rig, server: Server, source: str = "") -> Peer:
    """A client from outside, whom nobody has proven."""
    rig.plan(server.endpoint(slot=POD), address=server.address, port=server.port, protocol=Protocol.HTTP)
    return rig.client(server.address, server.port, Direction.INBOUND, slot=POD, source=source)


def status(client: Peer) -> tuple[int, str]:
    """Of a local reply, and its reason."""
    head = bytearray()

    def whole() -> bool:
        head.extend(client.take())
        return b"\r\n\r\n" in head

    client.rig.until(whole)
    fields = dict(line.split(": ", 1) for line in head.split(b"\r\n\r\n")[0].decode().split("\r\n")[1:])
    return int(head.split()[1]), fields.get("x-seine-reason", "")


def ask(client: Peer, request: bytes = GET) -> tuple[int, str]:
    client.send(request)
    return status(client)


# --- connections


@pytest.mark.parametrize("denying", [DENY_ALL, ALLOW_NONE], ids=["a rule that matches", "no rule that allows"])
def test_an_opaque_connection_that_is_denied_is_reset_and_the_app_never_sees_it(
    rig: Rig, denying: AuthorizationPolicy
) -> None:
    server = serving(rig, denying, protocol=Protocol.OPAQUE)
    client = rig.client()
    assert client.is_reset()
    assert server.try_accept() is None
    assert (rig.count("dialled"), rig.flags()) == (0, {"UAEX": 1})


def test_a_namespace_may_deny_by_default(rig: Rig) -> None:
    serving(rig, deny=True, protocol=Protocol.OPAQUE)
    assert rig.client().is_reset()
    assert rig.said() == {"denied": 1}


def test_the_right_identity_is_let_through_and_counted(rig: Rig) -> None:
    allow = policy("client", "ALLOW", rule(principals=[CLIENT]))
    server = serving(rig, allow, protocol=Protocol.OPAQUE)
    client = rig.client()
    app = server.accept()
    client.send(b"ping")
    assert app.receive(4) == b"ping"
    assert rig.said(allow) == {"allowed": 1}
    assert rig.engine.rulings() == []


def test_another_identity_or_none_is_not(rig: Rig) -> None:
    serving(
        rig, policy("client", "ALLOW", rule(principals=["cluster.local/ns/shop/sa/other"])), protocol=Protocol.OPAQUE
    )
    assert rig.client().is_reset()
    rig.engine.add_pod(SLOT, SOURCE)
    assert rig.client().is_reset()


def test_rules_look_at_the_pods_port_not_at_the_services(rig: Rig) -> None:
    server = serving(rig, protocol=Protocol.OPAQUE)
    say(rig, policy("port", "ALLOW", rule(ports=[server.port])))
    rig.client()
    server.accept()
    say(rig, policy("port", "ALLOW", rule(ports=[80])))
    assert rig.client().is_reset()


@pytest.mark.parametrize(("block", "allowed"), [("127.0.0.9/32", True), ("127.0.0.0/29", False), ("::/0", False)])
def test_a_client_from_outside_is_known_by_its_address_alone(rig: Rig, block: str, allowed: bool) -> None:
    server = serving(rig, policy("block", "ALLOW", rule(ip_blocks=[block])))
    client = inbound(rig, server, source="127.0.0.9")
    if allowed:
        answered(client, asked(client, server), OK)
    else:
        assert ask(client) == (403, "authz_denied")


def test_who_is_not_this_pods_is_not_its_business(rig: Rig) -> None:
    server = serving(rig, DENY_ALL, protocol=Protocol.OPAQUE)
    rig.plan(server.endpoint(slot=-1), protocol=Protocol.OPAQUE)
    rig.client()
    server.accept()


# --- what a connection speaks is not known yet


def test_http_that_is_denied_hears_403_also_where_nobody_declared_it(rig: Rig) -> None:
    server = serving(rig, DENY_ALL)
    client = rig.client()
    assert ask(client) == (403, "authz_denied")
    assert server.try_accept() is None
    assert ask(client, get("/again")) == (403, "authz_denied")
    assert {(series.code, series.flag) for series in rig.series() if series.count} == {(403, "UAEX")}
    assert rig.said(DENY_ALL) == {"denied": 2}


def test_who_only_listens_is_not_connected_to_an_app_that_nothing_but_http_may_reach(quick: Rig) -> None:
    server = serving(quick, policy("paths", "ALLOW", rule(paths=["/"])))
    client = quick.client()
    assert client.is_reset()
    assert server.try_accept() is None
    assert (quick.count("policy_waited"), quick.flags()) == (1, {"UAEX": 1})


@pytest.mark.parametrize("speech", [b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"G"])
def test_what_is_not_http_does_not_pass_a_rule_that_needs_it(quick: Rig, speech: bytes) -> None:
    serving(quick, policy("paths", "ALLOW", rule(paths=["*"])))
    client = quick.client()
    client.send(speech)
    assert client.is_reset()


def test_a_client_that_ends_before_it_spoke_is_denied_at_once(rig: Rig) -> None:
    serving(rig, ALLOW_NONE)
    client = rig.client()
    client.finish()
    assert client.is_reset()


def test_a_server_that_speaks_first_is_reached_where_a_rule_needs_no_http(rig: Rig) -> None:
    allow = policy("client", "ALLOW", rule(principals=[CLIENT]))
    server = serving(rig, allow)
    client = rig.client()
    app = server.accept()
    app.send(b"220 hello\r\n")
    assert client.receive(11) == b"220 hello\r\n"
    assert rig.said(allow) == {"allowed": 1}


def test_http_on_a_connection_dialled_at_once_is_judged_and_counted_as_a_request(rig: Rig) -> None:
    """Nobody had said anything when the app was dialled."""
    watch = policy("watch", "AUDIT", rule(paths=["/a/b"]))
    server = serving(rig, ALLOW_ALL, watch)
    client = rig.client()
    app = server.accept()
    client.send(get("/a/./b"))
    assert app.receive(len(get("/a/b"))) == get("/a/b")
    answered(client, app, OK)
    assert (rig.said(ALLOW_ALL), rig.said(watch)) == ({"allowed": 1}, {"audited": 1})


def test_a_first_request_with_two_readings_does_not_reach_the_app_that_was_dialled_at_once(rig: Rig) -> None:
    server = serving(rig, ALLOW_ALL, policy("watch", "AUDIT", rule(paths=["/admin"])))
    client = rig.client()
    app = server.accept()
    assert ask(client, get("/x/..;/admin")) == (400, "path_ambiguous")
    assert app.is_reset()


# --- requests


def test_each_request_of_a_connection_is_judged_for_itself(rig: Rig) -> None:
    deny = policy("admin", "DENY", rule(paths=["/admin*"]))
    server = serving(rig, deny, protocol=Protocol.HTTP)
    client = rig.client()
    app = asked(client, server)
    answered(client, app, OK)
    assert ask(client, get("/admin/x")) == (403, "authz_denied")
    exchange(client, app, get("/other"))
    assert rig.said(deny) == {"denied": 1}


def test_a_denied_requests_body_is_not_taken_for_the_next_request(rig: Rig) -> None:
    serving(rig, DENY_ALL, protocol=Protocol.HTTP)
    client = rig.client()
    request = get("/", "Content-Length: 30", method="POST")
    assert ask(client, request + b"GET /") == (403, "authz_denied")
    client.send(b"x" * 25)
    client.finish()
    assert b"HTTP/1.1" not in client.rest()


@pytest.mark.parametrize(
    ("field", "value", "request_", "allowed"),
    [
        ("hosts", "shop.example", b"GET / HTTP/1.1\r\nHost: SHOP.example:8080\r\n\r\n", True),
        ("hosts", "*.example", b"GET / HTTP/1.1\r\nHost: shop.example.\r\n\r\n", True),
        ("hosts", "shop.example", b"GET http://shop.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", True),
        ("hosts", "*", b"GET / HTTP/1.0\r\n\r\n", False),
        ("hosts", "shop.example", b"GET / HTTP/1.1\r\nHost: shop.example.evil\r\n\r\n", False),
        ("methods", "GET", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", False),
        ("methods", "*", b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        ("paths", "/", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", True),
        ("paths", "/a", b"GET /a?/b HTTP/1.1\r\nHost: a\r\n\r\n", True),
        ("paths", "/a", b"GET http://a/a?b HTTP/1.1\r\nHost: a\r\n\r\n", True),
        ("paths", "*", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", True),
        ("paths", "*", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", False),
        ("not_paths", "/a*", b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n", True),
        ("not_paths", "/a*", b"GET /ab HTTP/1.1\r\nHost: a\r\n\r\n", False),
    ],
)
def test_what_is_known_of_a_request(rig: Rig, field: str, value: str, request_: bytes, allowed: bool) -> None:
    server = serving(rig, policy("some", "ALLOW", rule(**{field: [value]})), protocol=Protocol.HTTP)
    client = rig.client()
    if allowed:
        asked(client, server, request_)
    else:
        assert ask(client, request_) == (403, "authz_denied")


FIELDS = b"Host: a\r\nConnection: x-odd\r\nx-odd: 1\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize("cut", ["whole", "in pieces"])
@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/admin", "/admin"),
        ("//admin", "/admin"),
        ("/./admin", "/admin"),
        ("/x/../admin", "/admin"),
        ("/%61dmin", "/admin"),
        ("/x/%2e%2E/admin?a=/../b", "/admin"),
        ("/public/..", "/"),
        ("/%7Eme/%c3%a4", "/~me/%C3%A4"),
    ],
)
def test_a_path_is_judged_in_its_normal_form_and_this_is_what_is_forwarded(
    rig: Rig, sent: str, seen: str, cut: str
) -> None:
    server = serving(rig, policy("one", "ALLOW", rule(paths=[seen])), protocol=Protocol.HTTP)
    client = rig.client()
    request = f"GET {sent} HTTP/1.1\r\n".encode() + FIELDS
    for piece in [request] if cut == "whole" else [request[:9], request[9:-3], request[-3:]]:
        client.send(piece)
        rig.settle()
    query = "?" + sent.partition("?")[2] if "?" in sent else ""
    wanted = f"GET {seen}{query} HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n".encode()
    app = server.accept()
    assert app.receive(len(wanted)) == wanted
    answered(client, app, OK)
    exchange(client, app, get(seen))


@pytest.mark.parametrize(
    "path", ["/a%2fb", "/a%5Cb", "/a%00", "/a%", "/a%zz", "/a/..;/admin", "/a//../b", "/%2e%2e;x/admin"]
)
def test_a_path_with_two_readings_is_refused_where_a_rule_looks_at_paths(rig: Rig, path: str) -> None:
    server = serving(rig, policy("all", "ALLOW", rule(paths=["*"])), protocol=Protocol.HTTP)
    assert ask(rig.client(), get(path)) == (400, "path_ambiguous")
    assert rig.count("path_ambiguous") == 1
    say(rig, policy("all", "ALLOW", rule(methods=["*"])))
    asked(rig.client(), server, get(path))


@pytest.mark.parametrize("target", ["//a", "http://shop.example//a"])
def test_a_host_is_found_beside_a_path_that_was_rewritten(rig: Rig, target: str) -> None:
    server = serving(rig, policy("both", "ALLOW", rule(paths=["/a"], hosts=["shop.example"])), protocol=Protocol.HTTP)
    client = rig.client()
    request = f"GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"
    client.send(request.encode())
    wanted = request.replace("//a", "/a").encode()
    assert server.accept().receive(len(wanted)) == wanted


def test_a_body_that_came_with_the_head_follows_the_rewritten_head(rig: Rig) -> None:
    server = serving(rig, policy("all", "ALLOW", rule(paths=["/a/b"])), protocol=Protocol.HTTP)
    client = rig.client()
    client.send(get("/a///./b", "Content-Length: 5", method="POST") + b"hello" + get("/a/b"))
    app = server.accept()
    wanted = get("/a/b", "Content-Length: 5", method="POST") + b"hello"
    assert app.receive(len(wanted)) == wanted
    answered(client, app, OK)
    assert app.receive(len(get("/a/b"))) == get("/a/b")
    assert sum(series.request_bytes for series in rig.series()) == 5


def test_a_request_that_is_repeated_is_repeated_in_its_normal_form(rig: Rig) -> None:
    server = serving(rig, policy("all", "ALLOW", rule(paths=["/a", "/"])), protocol=Protocol.HTTP)
    client = rig.client()
    app = asked(client, server)
    answered(client, app, OK)
    put = get("/a", "Content-Length: 5", method="PUT") + b"hello"
    client.send(put.replace(b"/a", b"/b/.././a"))
    assert app.receive(len(put)) == put
    app.close()
    again = server.accept()
    assert again.receive(len(put)) == put
    answered(client, again, OK)
    assert sum(series.request_bytes for series in rig.series()) == 5


def test_another_endpoint_is_asked_by_its_own_policies(rig: Rig) -> None:
    """One refuses the connection, after the path was brought into its normal form; the other's policies decide."""
    serving(rig)
    rig.engine.add_pod(8, 2)
    dead = Server(rig).endpoint(slot=8)
    rig.servers[-1].sock.close()
    alive = Server(rig)
    rig.plan(dead, alive.endpoint(slot=POD), protocol=Protocol.HTTP)
    rig.engine.set_policies(8, Authorization(policies=(policy("other", "DENY", rule(paths=["/other"])),)))
    say(rig, policy("admin", "DENY", rule(paths=["/admin"])))
    while not rig.count("dial_retried"):
        assert ask(rig.client(), get("/x/../admin")) == (403, "authz_denied")
    retried = rig.count("dial_retried")
    for number in range(2, 250):
        if rig.count("dial_retried") > retried:
            break
        client = rig.client(source=f"127.0.0.{number}")  # nobody else's connection is used for it
        client.send(get("/x/../fine"))
        app = alive.accept()
        assert app.receive(len(get("/fine"))) == get("/fine")
        answered(client, app, OK)


# --- what is told


def test_an_audit_is_counted_and_told_and_changes_nothing(rig: Rig) -> None:
    audit = policy("watch", "AUDIT", rule(), rule(methods=["GET"]))
    server = serving(rig, audit, protocol=Protocol.HTTP)
    client = rig.client()
    answered(client, asked(client, server), OK)
    assert rig.said(audit) == {"audited": 1}
    (ruling,) = rig.engine.rulings()
    assert (ruling.policy, ruling.rule, ruling.verdict, ruling.slot) == (audit.id, 0, "audited", POD)


def test_a_dry_run_is_counted_and_told_and_changes_nothing(rig: Rig) -> None:
    deny = policy("deny", "DENY", rule(paths=["/admin"]), dry_run=True)
    server = serving(rig, deny, protocol=Protocol.HTTP)
    client = rig.client()
    app = asked(client, server, get("/admin"))
    answered(client, app, OK)
    exchange(client, app, get("/"))
    assert rig.said(deny) == {"would_deny": 1}
    (ruling,) = rig.engine.rulings()
    assert (ruling.verdict, ruling.method, ruling.host, ruling.path) == ("would_deny", "GET", "a", "/admin")


def test_a_dry_allow_tells_whom_it_would_lock_out_and_whom_let_in(rig: Rig) -> None:
    dry = policy("dry", "ALLOW", rule(paths=["/a"]), dry_run=True)
    server = serving(rig, dry, protocol=Protocol.HTTP)
    client = rig.client()
    answered(client, asked(client, server, get("/b")), OK)
    assert rig.said(dry) == {"would_deny": 1}
    say(rig, ALLOW_NONE, dry)
    assert ask(client, get("/a")) == (403, "authz_denied")
    assert rig.said(dry) == {"would_deny": 1, "would_allow": 1}
    assert rig.said() == {"denied": 1}


def test_denials_are_told_once_a_second_with_who_what_and_why(rig: Rig) -> None:
    deny = policy("admin", "DENY", rule(methods=["PUT"]), rule(paths=["/admin*"]))
    serving(rig, deny, protocol=Protocol.HTTP)
    client = rig.client(source="127.0.0.5")
    for number in range(5):
        assert ask(client, get(f"/admin/{number}?secret")) == (403, "authz_denied")
    assert RulingsReady() in rig.events
    (ruling,) = rig.engine.rulings()
    assert (ruling.policy, ruling.rule, ruling.verdict, ruling.missed) == (deny.id, 1, "denied", 0)
    assert (ruling.client, ruling.client_port) == ("127.0.0.5", client.sock.getsockname()[1])
    assert (ruling.identity, ruling.slot, ruling.port) == (f"spiffe://{CLIENT}", POD, rig.servers[0].port)
    assert (ruling.method, ruling.host, ruling.path) == ("GET", "a", "/admin/0")
    assert rig.engine.rulings() == []
    assert rig.said(deny) == {"denied": 5}


def test_what_a_rule_without_paths_denies_is_told_with_its_path_all_the_same(rig: Rig) -> None:
    serving(rig, DENY_ALL, protocol=Protocol.HTTP)
    assert ask(rig.client(), get("/some//where")) == (403, "authz_denied")
    (ruling,) = rig.engine.rulings()
    assert (ruling.method, ruling.path) == ("GET", "/some//where")


def test_long_texts_are_cut_not_lost(rig: Rig) -> None:
    serving(rig, DENY_ALL, protocol=Protocol.HTTP)
    assert ask(rig.client(), get("/" + "x" * 5000)) == (403, "authz_denied")
    (ruling,) = rig.engine.rulings()
    assert ruling.path == "/" + "x" * 318


def test_rulings_that_nobody_takes_are_dropped_and_counted(rig: Rig) -> None:
    server = serving(rig, *(policy(f"audit-{number}", "AUDIT", rule()) for number in range(70)), protocol=Protocol.HTTP)
    client = rig.client()
    answered(client, asked(client, server), OK)
    assert len(rig.engine.rulings()) == 64
    assert rig.count("rulings_dropped") == 6


def test_more_policies_than_there_are_counters_for_are_enforced_all_the_same(rig: Rig) -> None:
    first = [policy(f"p-{number}", "AUDIT", rule(ports=[1])) for number in range(511)]
    serving(rig, *first, protocol=Protocol.HTTP)
    assert rig.count("policies_overflow") == 0
    say(rig, DENY_ALL)
    assert rig.count("policies_overflow") == 1
    assert ask(rig.client()) == (403, "authz_denied")
    assert rig.said(DENY_ALL) == {}


def test_counts_of_policies_that_are_gone_make_room_for_others(rig: Rig) -> None:
    serving(rig, protocol=Protocol.OPAQUE)
    for number in range(1200):
        say(rig, policy(f"p-{number}", "DENY", rule()))
        if number % 400 == 0:
            assert rig.client().is_reset()
            assert rig.said(policy(f"p-{number}", "DENY")) == {"denied": 1}
    assert rig.count("policies_overflow") == 0
    assert rig.said(policy("p-1199", "DENY")) == {}


# --- policies change


def test_a_new_policy_ends_the_open_connections_that_it_denies_and_no_others(rig: Rig) -> None:
    server = serving(rig, protocol=Protocol.OPAQUE)
    doomed, app = rig.client(source="127.0.0.5"), server.accept()
    spared, other = rig.client(source="127.0.0.6"), server.accept()
    deny = policy("five", "DENY", rule(ip_blocks=["127.0.0.5/32"]))
    say(rig, deny)
    assert doomed.is_reset()
    assert app.is_reset()
    spared.send(b"still")
    assert other.receive(5) == b"still"
    rig.engine.add_pod(8, 2)
    rig.engine.set_policies(8, Authorization(policies=(DENY_ALL,)))
    spared.send(b"still")
    assert other.receive(5) == b"still"
    assert (rig.count("policy_ended"), rig.said(deny), rig.flags()) == (1, {"denied": 1}, {"UAEX": 1})


def test_http_hears_of_a_new_policy_at_its_next_request(rig: Rig) -> None:
    server = serving(rig, protocol=Protocol.HTTP)
    client = rig.client()
    app = asked(client, server)
    say(rig, policy("no", "DENY", rule(paths=["/*"])))  # nobody remembers what the request under way asked for
    answered(client, app, OK)
    assert ask(client) == (403, "authz_denied")


def test_a_request_under_way_is_ended_by_what_denies_it_for_sure(rig: Rig) -> None:
    """An answer without end would never hear of it."""
    server = serving(rig, protocol=Protocol.HTTP)
    client = rig.client()
    app = asked(client, server)
    app.send(b"HTTP/1.1 200 OK\r\n\r\nfor ever and")
    rig.until(lambda: b"for ever" in client.take())
    say(rig, DENY_ALL)
    assert client.is_reset()


def test_a_connection_under_way_to_its_server_is_ended_too(rig: Rig) -> None:
    serving(rig)
    server = Server(rig, backlog=1)
    rig.plan(server.endpoint(slot=POD), protocol=Protocol.OPAQUE)
    clients = [rig.client() for _ in range(8)]  # more than the queue holds
    say(rig, DENY_ALL)
    assert all(client.is_reset() for client in clients)
    assert rig.engine.live() == 0


def test_an_upgraded_connection_is_ended_by_what_denies_it_for_sure(rig: Rig) -> None:
    """It was a request once; nobody remembers which."""
    server = serving(rig, policy("chat", "ALLOW", rule(paths=["/chat"], principals=[CLIENT])), protocol=Protocol.HTTP)
    client = rig.client()
    upgrade = get("/chat", "Upgrade: chat", "Connection: upgrade")
    app = asked(client, server, upgrade)
    app.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\nhi")
    rig.until(lambda: b"hi" in client.take())
    say(
        rig,
        policy("no", "DENY", rule(paths=["/x"])),
        policy("chat", "ALLOW", rule(paths=["/chat2"], principals=[CLIENT])),
    )
    client.send(b"more")
    assert app.receive(4) == b"more"
    say(rig, policy("chat", "ALLOW", rule(paths=["/chat"], principals=["somebody/else"])))
    assert client.is_reset()


def test_without_policies_again_everybody_may_call(rig: Rig) -> None:
    server = serving(rig, DENY_ALL, protocol=Protocol.OPAQUE)
    assert rig.client().is_reset()
    rig.engine.set_policies(POD, None)
    rig.client()
    server.accept()


def test_a_pod_that_leaves_takes_its_policies_with_it(rig: Rig) -> None:
    server = serving(rig, DENY_ALL, protocol=Protocol.OPAQUE)
    rig.engine.remove_pod(POD, close_connections=True)
    rig.engine.add_pod(POD, 1)
    rig.client()
    server.accept()


def test_what_cannot_be_is_refused(rig: Rig) -> None:
    with pytest.raises(OSError, match="slot 9"):
        rig.engine.set_policies(9, None)
    serving(rig)
    with pytest.raises(OSError, match="Invalid"):
        rig.engine.set_policies(POD, Authorization(policies=(policy("a", "AUDIT"), DENY_ALL)))


def test_counters_go_on_in_a_successors_file(rig: Rig) -> None:
    stats = os.dup(rig.stats)
    serving(rig, DENY_ALL, protocol=Protocol.OPAQUE)
    assert rig.client().is_reset()
    with Rig(stats=stats) as successor:
        serving(successor, policy("other", "DENY"), DENY_ALL, protocol=Protocol.OPAQUE)
        assert successor.client().is_reset()
        assert successor.said(DENY_ALL) == {"denied": 2}
