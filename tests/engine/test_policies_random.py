"""Any requests, one after the other, in any pieces: the app gets just those that the rules' meaning lets through, each
with its path in normal form and otherwise as it was sent."""

from __future__ import annotations

import random

import pytest

from mesh.identity.authz import Facts, Request, decide
from mesh.identity.normal import Ambiguous, normal_host, normal_path
from mesh.model import Authorization, Protocol
from tests.engine.rig import SLOT, SOURCE, Peer, Rig, Server
from tests.engine.web import OK, feed
from tests.kit.builders import policy, rule

POD = 7
CLIENT = "spiffe://cluster.local/ns/shop/sa/client"
SAID = Authorization(
    policies=(
        policy("deny", "DENY", rule(paths=["/a/b*"], methods=["GET"]), rule(hosts=["*.evil"])),
        policy("allow", "ALLOW", rule(paths=["/a*", "*/", "*~"]), rule(methods=["P*"], not_hosts=["b.shop"])),
    )
)
PIECES = ["/", "/", ".", "..", "a", "b", "%61", "%2e", "%7e", "~", "%2F", ";", "%20", "c.d"]
HOSTS = ("shop", "B.shop:80", "x.evil", "SHOP.")


class Sent:
    """One request as it goes out, and as the app should see it (None: never); `code` of what the client hears."""

    def __init__(self, chance: random.Random, first: bool) -> None:
        path = "/" + "".join(chance.choice(PIECES) for _ in range(chance.randrange(5)))
        query = chance.choice(("", "", "?x=/../y"))
        host, method = chance.choice(HOSTS), chance.choice(("GET", "PUT"))
        body = b"x" * chance.randrange(9) if method == "PUT" else b""
        before = chance.choice(("", "X-A: 1\r\n", "Connection: x-b\r\nX-B: gone\r\n"))
        after = chance.choice(("", "X-C: 2\r\n", "Keep-Alive: 9\r\n")) + (
            f"Content-Length: {len(body)}\r\n" if body else ""
        )
        absolute = f"http://{host}" if chance.random() < 0.2 else ""
        blank = "\r\n" if not first and chance.random() < 0.1 else ""  # a connection that begins so is not HTTP

        def message(path: str, before: str, after: str) -> bytes:
            return f"{method} {absolute}{path}{query} HTTP/1.1\r\n{before}Host: {host}\r\n{after}\r\n".encode() + body

        self.bytes = blank.encode() + message(path, before, after)
        self.seen: bytes | None = None
        try:
            normal = normal_path(path)
        except Ambiguous:
            self.code = 400
            return
        request = Request(method=method, host=normal_host(host), path=normal)
        allowed = decide(SAID, Facts(address="127.0.0.1", port=1, identity=CLIENT, request=request)).enforced.allowed
        self.code = 200 if allowed else 403
        if allowed:
            kept = "" if "gone" in before else before
            self.seen = message(normal, kept, after.replace("Keep-Alive: 9\r\n", ""))


def heard(client: Peer) -> tuple[int, bool]:
    """The status of one response, read to its end, and whether it is the last one."""
    got = bytearray()

    def head() -> bool:
        while not got.endswith(b"\r\n\r\n") and (byte := client.take(1)):
            got.extend(byte)
        return got.endswith(b"\r\n\r\n")

    client.rig.until(head)
    length = int(got.lower().split(b"content-length: ")[1].split()[0])
    client.receive(length)
    return int(got.split()[1]), b"Connection: close" in got


def converse(rig: Rig, server: Server, chance: random.Random) -> None:
    """Until something closes the client's connection."""
    client, app = rig.client(source=f"127.0.{chance.randrange(256)}.{chance.randrange(1, 255)}"), None
    for number in range(20):
        sent = Sent(chance, number == 0)
        feed(client, sent.bytes, chance.choice(("whole", "random", "late")))
        if sent.seen is not None:
            app = app or server.accept()
            assert app.receive(len(sent.seen)) == sent.seen, sent.bytes
            app.send(OK)
        code, last = heard(client)
        assert code == sent.code, sent.bytes
        if last:  # it was refused before all of its body was there, or nobody knows where the next one begins
            return


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.DETECT])
def test_the_app_gets_what_the_meaning_lets_through_as_it_was_judged(rig: Rig, protocol: Protocol) -> None:
    chance = random.Random(3)
    rig.engine.add_pod(SLOT, SOURCE, principal=CLIENT)
    rig.engine.add_pod(POD, 1)
    server = Server(rig)
    rig.plan(server.endpoint(slot=POD), protocol=protocol)
    rig.engine.set_policies(POD, SAID)
    for _ in range(80):
        converse(rig, server, chance)
    assert server.try_accept() is None
    assert rig.count("path_rewritten") > 50
    assert rig.count("path_ambiguous") > 50
