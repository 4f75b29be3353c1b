"""A node and an authority elsewhere, over real TLS."""

import asyncio
import json
import ssl
from datetime import UTC, datetime

import msgspec
import pytest

from mesh.identity import certificate, issue, wire
from mesh.identity.authority import AuthorityError, Root, RootState, Trust
from mesh.identity.keeper import Keeper
from mesh.identity.wire import Answer
from tests.kit.clock import FakeClock
from tests.kit.pki import Authority
from tests.unit.identity.distance import DOMAIN, FORBIDDEN, Distance, record

WEB = f"spiffe://{DOMAIN}/ns/shop/sa/web"


def play(tmp_path, scenario, **given):
    async def run():
        async with Distance(tmp_path, **given) as distance:
            await asyncio.wait_for(scenario(distance), 30)

    asyncio.run(run())


async def sign(remote, name=WEB):
    return await remote.sign(issue.make_request(issue.new_key(), name), name)


def test_whom_to_believe_and_a_certificate_come_over_the_wire(tmp_path):
    async def scenario(distance):
        remote = distance.node()
        trust = await remote.trust(record())
        assert trust == await distance.embedded.trust(record())
        _, facts = certificate.read_leaf(await sign(remote), [root.certificate for root in trust.roots], DOMAIN)
        assert (facts.name, facts.root) == (WEB, trust.issuing)
        assert abs(remote.skew_seconds) < 1

    play(tmp_path, scenario)


@pytest.mark.parametrize("ahead", [-3600, 45])
def test_how_far_the_clocks_are_apart_is_known(tmp_path, ahead):
    async def scenario(distance):
        remote = distance.node()
        now = distance.clock
        distance.clock = lambda: now() + ahead
        await remote.trust(record())
        assert remote.skew_seconds == pytest.approx(ahead, abs=2)

    play(tmp_path, scenario)


def failing(work, reason, words):
    async def check():
        with pytest.raises(AuthorityError) as caught:
            await work
        assert caught.value.reason == reason, caught.value
        assert words in str(caught.value)

    return check()


def test_a_token_is_read_anew_each_time_and_a_bad_one_is_a_sentence(tmp_path):
    async def scenario(distance):
        remote = distance.node(token="token-x")
        await failing(remote.trust(record()), "refused", "this is no token of node-a")
        path = tmp_path / "node-a.token"
        path.write_text("token-a")
        await remote.trust(record())
        for text in ("", "\n", "two tokens", "token\r\nX-Evil: 1", "x" * 9000):
            path.write_text(text)
            await failing(remote.trust(record()), "files", str(path))
        path.write_bytes(b"\xff")
        await failing(remote.trust(record()), "files", "no token can be read")
        path.unlink()
        await failing(remote.trust(record()), "files", "No such file")
        assert "token-x" not in str(distance.server.refused)

    play(tmp_path, scenario)


def test_an_identity_that_is_not_this_nodes_is_refused(tmp_path):
    async def scenario(distance):
        remote = distance.node()
        await remote.trust(record())
        await failing(sign(remote, FORBIDDEN), "refused", "no pod of node-a runs as")
        await sign(remote)
        await distance.embedded.deny(WEB, 60, "lost")
        await failing(sign(remote), "refused", "is denied until")

    play(tmp_path, scenario)


def test_an_authority_that_cannot_prove_itself_hears_no_token(tmp_path):
    async def scenario(distance):
        remote = distance.node()
        (tmp_path / "roots.pem").write_bytes(Authority("other root").root.pem())
        await failing(remote.trust(record()), "tls", "unable to get local issuer certificate")
        await failing(distance.node(host="127.0.0.1").trust(record()), "tls", "IP address mismatch")
        for text in ("", "nothing"):
            (tmp_path / "roots.pem").write_text(text)
            await failing(remote.trust(record()), "files", "no roots can be read")
        (tmp_path / "roots.pem").unlink()
        await failing(remote.trust(record()), "files", "no roots can be read")
        while distance.server.refused["handshake"] < 2:
            await asyncio.sleep(0.001)
        assert (distance.server.answered, distance.server.refused) == ({}, {"handshake": 2})

    play(tmp_path, scenario)


def test_an_authority_that_is_not_there_or_says_nothing_is_unreachable(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "EXCHANGE_SECONDS_MAX", 0.3)

    async def scenario(distance):
        held = []
        silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        await failing(distance.node(port=port).trust(record()), "unreachable", "no answer in 0.3 s")
        held[0].transport.abort()
        silent.close()
        await failing(distance.node(port=port).trust(record()), "unreachable", f"localhost:{port}")
        await failing(distance.node(host="nowhere.invalid").trust(record()), "unreachable", "nowhere.invalid")

    play(tmp_path, scenario)


def test_an_authority_with_trouble_of_its_own_says_which(tmp_path):
    async def scenario(distance):
        remote = distance.node()
        await remote.trust(record())
        (tmp_path / "identity/authority.json").write_text("")
        await failing(remote.trust(record()), "unavailable", "authority.json is empty")

    play(tmp_path, scenario)


def http(body, first="HTTP/1.1 200 OK"):
    return wire.head(first, body) + body


def trusting(*roots):
    return http(msgspec.json.encode(Answer(now=1.0, trust=Trust(generation=1, roots=roots))))


ROOT = issue.make_root(DOMAIN, issue.new_key(), 1_800_000_000.0)
LEAF = Authority().issue(WEB).der
ISSUING = Root(id=certificate.fingerprint(ROOT), certificate=ROOT, state=RootState.ISSUING, not_after=1.0, since=1)
NONSENSE = {
    "nothing": (b"", "useless", "ended within the head"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "useless", "no Content-Length"),
    "half": (http(b"{}")[:-1], "useless", "ended within the body"),
    "endless": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "useless", "more than"),
    "no JSON": (http(b"<html>"), "useless", "no Answer"),
    "no trust": (http(b'{"now": 1}'), "useless", "without saying whom"),
    "another language": (http(b"{}", "SIP/2.0 200 OK"), "useless", "does not speak HTTP"),
    "an error page": (http(b"<html>", "HTTP/1.1 502 Bad Gateway"), "useless", "status 502"),
    "an error": (http(b'{"error": "come later"}', "HTTP/1.1 503 x"), "unavailable", "come later"),
    "a redirect": (http(b'{"error": "over there"}', "HTTP/1.1 302 x"), "unavailable", "over there"),
    "no roots": (trusting(), "useless", "0 roots issue"),
    "two that issue": (trusting(ISSUING, ISSUING), "useless", "2 roots issue"),
    "no certificate": (trusting(msgspec.structs.replace(ISSUING, certificate=b"x")), "useless", "not a certificate"),
    "a leaf": (trusting(msgspec.structs.replace(ISSUING, certificate=LEAF)), "useless", "may not sign others"),
    "a false name": (trusting(msgspec.structs.replace(ISSUING, id="ff")), "useless", "that it calls ff"),
}


@pytest.mark.parametrize(("answer", "reason", "words"), NONSENSE.values(), ids=NONSENSE.keys())
def test_whatever_an_authority_answers_is_a_sentence_at_worst(tmp_path, answer, reason, words):
    async def scenario(distance):
        over = asyncio.Event()

        async def odd(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass  # the node did not wait for our end
            over.set()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        other = await asyncio.start_server(odd, "127.0.0.1", 0, ssl=context)
        port = other.sockets[0].getsockname()[1]
        await failing(distance.node(port=port).trust(record()), reason, words)
        await over.wait()
        other.close()

    play(tmp_path, scenario)


class Workers:
    def __init__(self):
        self.roots, self.chains = (), {}

    def set_trust(self, domain, roots, denied):
        self.roots = roots

    def set_identities(self, chains):
        self.chains = dict(chains)


def test_nodes_elsewhere_are_led_through_a_rotation(tmp_path):
    """Each shows what all believe, at every look; and the authority waits for both."""
    clock = FakeClock(float(int(datetime.now(UTC).timestamp())))

    async def scenario(distance):
        names = {"node-a": "token-a", "node-b": "token-b"}
        workers = {name: Workers() for name in names}
        keepers = [
            Keeper(distance.node(name, token), name, DOMAIN, workers[name], clock, clock, lambda: 0.5)
            for name, token in names.items()
        ]
        for keeper in keepers:
            keeper.wanted = frozenset([WEB])

        async def look():
            clock.advance(31)
            for keeper in keepers:
                for _ in range(4):
                    keeper.tend()
                    await keeper.idle()
                for one in workers.values():
                    for other in workers.values():
                        for chain in one.chains.values() if other.chains else ():
                            certificate.read_leaf(chain, other.roots, DOMAIN)

        def believed():
            return {keeper.trust for keeper in keepers}

        await look()
        await look()
        (first,) = believed()
        await distance.embedded.rotate()
        for _ in range(12):
            await look()
        (last,) = believed()
        assert first is not None
        assert last is not None
        assert (len(last.roots), last.issuing == first.issuing) == (1, False)
        assert json.loads((tmp_path / "identity/nodes/node-b.json").read_text())["trusts"] == [last.issuing]

    play(tmp_path, scenario, clock=clock, monotonic=clock)
