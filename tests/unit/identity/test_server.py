"""An authority that strangers may reach: each bad request is refused with its reason, and nobody else is disturbed."""

import asyncio
import json
import ssl

import pytest

from mesh.identity import issue, server, wire
from tests.unit.identity.distance import FORBIDDEN, Distance, record

WEB = "spiffe://cluster.local/ns/shop/sa/web"


def play(tmp_path, scenario):
    async def run():
        async with Distance(tmp_path) as distance:
            await asyncio.wait_for(scenario(distance), 20)

    asyncio.run(run())


def message(ask, path=wire.TRUST, token="token-a", method="POST"):
    body = json.dumps(ask).encode()
    return wire.head(f"{method} {path} HTTP/1.1", body, f"Authorization: Bearer {token}") + body


def trust(node="node-a", **changed):
    return {"node": node, "record": {"node": node}, **changed}


def sign(name=WEB, request=""):
    return {"node": "node-a", "name": name, "request": request}


GARBAGE = "AAAA"
ENDLESS = {"root": "x", "count": 1, "until": 1e12}
CASES = {
    "no token": (message(trust()).replace(b"Authorization", b"X"), 401, "token"),
    "basic": (message(trust()).replace(b"Bearer", b"Basic"), 401, "token"),
    "wrong token": (message(trust(), token="token-x"), 403, "token"),
    "another node's token": (message(trust(), token="token-b"), 403, "token"),
    "an identity of elsewhere": (message(sign(FORBIDDEN), wire.SIGN), 403, "workload"),
    "another node's record": (message(trust(record={"node": "node-b"})), 404, "malformed"),
    "a certificate without end": (message(trust(record={"node": "node-a", "leafs": [ENDLESS]})), 400, "malformed"),
    "no record": (message({"node": "node-a"}), 404, "malformed"),
    "a record to sign": (message(trust(), wire.SIGN), 404, "malformed"),
    "another path": (message(trust(), "/v1/keys"), 404, "malformed"),
    "GET": (message(trust(), method="GET"), 404, "malformed"),
    "a path as node": (message(trust("../../etc/cron.d/x")), 400, "malformed"),
    "no node": (message(trust("")), 400, "malformed"),
    "no JSON": (wire.head("POST /v1/trust HTTP/1.1", b"{") + b"{", 400, "malformed"),
    "no HTTP": (b"hello\r\n\r\n", 400, "malformed"),
    "a large head": (b"POST / HTTP/1.1\r\nX: " + b"x" * 20_000, 400, "malformed"),
    "a large body": (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 400, "malformed"),
    "no request": (message(sign(), wire.SIGN), 403, "refused"),
    "a large request": (message(sign(request="A" * 8000), wire.SIGN), 413, "large"),
    "a garbage request": (message(sign(request=GARBAGE), wire.SIGN), 403, "refused"),
}


@pytest.mark.parametrize(("sent", "status", "reason"), CASES.values(), ids=CASES.keys())
def test_a_bad_request_is_refused_with_its_reason(tmp_path, sent, status, reason):
    async def scenario(distance):
        await distance.embedded.trust(record("first"))
        answer = await distance.say(sent)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) > 10
        assert (distance.server.answered, distance.server.refused) == ({}, {reason: 1})
        assert [path.name for path in tmp_path.glob("identity/nodes/*")] == ["first.json"]
        await distance.node().trust(record())

    play(tmp_path, scenario)


def test_a_good_request_is_answered(tmp_path):
    async def scenario(distance):
        found = json.loads((await distance.say(message(trust()))).partition(b"\r\n\r\n")[2])
        assert found["trust"]["generation"] == 1
        assert (distance.server.answered, distance.server.refused) == ({"trust": 1}, {})

    play(tmp_path, scenario)


def test_an_authority_that_cannot_is_not_the_nodes_fault(tmp_path):
    async def scenario(distance):
        await distance.embedded.trust(record())
        (tmp_path / "identity/authority.json").write_text("")
        answer = await distance.say(message(trust()))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert distance.server.refused == {"damaged": 1}

    play(tmp_path, scenario)


def test_slow_clients_are_cut_off_and_hold_up_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "EXCHANGE_SECONDS_MAX", 1.0)

    async def scenario(distance):
        slow = [await distance.connect() for _ in range(20)]
        for _, writer in slow:
            writer.write(b"POST /v1/tr")
        await distance.node().trust(record())
        for reader, writer in slow:
            assert await reader.read() == b""
            writer.transport.abort()
        assert distance.server.refused == {"timeout": 20}

    play(tmp_path, scenario)


def test_who_says_nothing_of_tls_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS_MAX", 0.2)

    async def scenario(distance):
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", distance.port)
            writer.write(words)
            try:
                await asyncio.wait_for(reader.read(), 5)
            except ConnectionResetError:
                pass
            writer.transport.abort()
        await distance.node().trust(record())
        assert distance.server.refused == {"handshake": 1, "handshake_timeout": 2}

    play(tmp_path, scenario)


def test_who_does_not_believe_us_or_speaks_an_old_tls_is_counted(tmp_path):
    async def scenario(distance):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(distance.pki.root.der))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        distance.context.minimum_version = ssl.TLSVersion.TLSv1_3
        for context in (ssl.create_default_context(), old):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", distance.port, ssl=context, server_hostname="localhost")
        while distance.server.refused["handshake"] < 2:
            await asyncio.sleep(0.001)
        await distance.node().trust(record())

    play(tmp_path, scenario)


def test_of_too_many_handshakes_the_oldest_gives_way(tmp_path, monkeypatch):
    """Strangers who open connections and say nothing keep no node out."""
    monkeypatch.setattr(server, "HANDSHAKES_MAX", 3)

    async def scenario(distance):
        silent = [await asyncio.open_connection("127.0.0.1", distance.port) for _ in range(5)]
        for reader, _ in silent[:2]:
            assert await reader.read() == b""
        await distance.node().trust(record())
        assert await silent[2][0].read() == b"", "it made room for the node"
        assert distance.server.refused == {"handshakes": 3}
        assert len(distance.server._handshakes) == 2
        for _, writer in silent:
            writer.transport.abort()

    play(tmp_path, scenario)


def test_there_is_a_limit_on_connections(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 3)

    async def scenario(distance):
        held = [await distance.connect() for _ in range(3)]
        for _, writer in held:
            writer.write(b"P")
        while len(distance.server._connections) < 3:
            await asyncio.sleep(0.001)
        assert await distance.say(b"P") == b""
        assert distance.server.refused == {"connections": 1}
        for _, writer in held:
            writer.transport.abort()

    play(tmp_path, scenario)


def test_a_request_gets_its_certificate(tmp_path):
    async def scenario(distance):
        await distance.embedded.trust(record())
        (leaf,) = await distance.node().sign(issue.make_request(issue.new_key(), WEB), WEB)
        assert leaf[:1] == b"\x30"

    play(tmp_path, scenario)
