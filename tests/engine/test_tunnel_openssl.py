"""OpenSSL's own command in a peer's place, for what Python's ssl lacks: new keys, other algorithms, early data."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.engine.pair import CLIENT, HERE, Pair


class Client:
    """`openssl s_client` on its way to the destination, while the rig pumps."""

    def __init__(self, pair: Pair, folder: Path, *more: str, version: str = "-tls1_3") -> None:
        self.pair, self.log = pair, folder / "said"
        own, root = folder / "own.pem", folder / "root.pem"
        own.write_bytes(pair.authority.issue(CLIENT).pem())
        root.write_bytes(pair.authority.root.pem())
        command = ["openssl", "s_client", "-connect", f"{HERE}:{pair.tunnel_port}", version, "-alpn", "h2"]
        command += ["-cert", str(own), "-key", str(own), "-CAfile", str(root), *more]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def type(self, line: str) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended

    def wait_end(self) -> None:
        self.pair.destination.until(lambda: self.process.poll() is not None)


@contextmanager
def client(pair: Pair, folder: Path, *more: str, version: str = "-tls1_3") -> Iterator[Client]:
    made = Client(pair, folder, *more, version=version)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made.ready()


def renew(client: Client, times: int) -> int:
    """The peer's keys, one after the other, and asks for ours; how often before it was cut off."""
    destination = client.pair.destination

    def done(number: int) -> bool:
        return client.said().count("KEYUPDATE") >= number or client.process.poll() is not None

    for number in range(1, times + 1):
        client.type("K")
        destination.until(partial(done, number))
        destination.settle()
        if destination.count("tls_update_flood"):
            return number
    return times


def test_new_keys_now_and_then_are_fine_and_without_end_they_cut_the_tunnel(pair: Pair, tmp_path: Path) -> None:
    ours, app = pair.talk()
    with client(pair, tmp_path) as peer:
        pair.destination.wait_for(tls_handshakes=2)
        assert renew(peer, 10) == 10
        assert pair.destination.count("tunnels") == 2
        assert 10 < 10 + renew(peer, 40) < 40
        pair.destination.until(lambda: pair.destination.count("tunnels") == 1)
    ours.send(b"still")
    assert app.receive(5) == b"still"


@pytest.mark.parametrize(
    "offered",
    [
        ("-ciphersuites", "TLS_AES_128_CCM_8_SHA256"),
        ("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
        ("-groups", "ffdhe8192"),
        ("-groups", "X448"),
    ],
    ids=lambda offered: offered[1],
)
def test_who_offers_other_algorithms_only_is_refused(pair: Pair, tmp_path: Path, offered: tuple[str, str]) -> None:
    """A group of 8192 bits would hold up the loop; a tag of 8 bytes protects little."""
    with client(pair, tmp_path, *offered) as peer:
        pair.destination.wait_for(tls_failed_algorithms=1)
        peer.wait_end()
        assert pair.destination.count("tls_handshakes") == 0


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2"])
def test_older_versions_are_refused_and_with_them_renegotiation(pair: Pair, tmp_path: Path, version: str) -> None:
    with client(pair, tmp_path, "-cipher", "ALL:@SECLEVEL=0", version=version) as peer:
        pair.destination.wait_for(tls_failed_version=1)
        peer.wait_end()
        assert pair.destination.count("tls_handshakes") == 0


def test_what_a_client_resumes_invites_no_early_data(pair: Pair, tmp_path: Path) -> None:
    """Nothing can be replayed: a ticket allows none, and who has a request ready has to wait like others."""
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    with client(pair, tmp_path, "-sess_out", str(session)) as peer:
        pair.destination.until(session.exists)
        peer.type("Q")
        peer.wait_end()
        assert "Max Early Data: 0" in peer.said()
    with client(pair, tmp_path, "-sess_in", str(session), "-early_data", str(early)) as peer:
        pair.destination.wait_for(tls_resumed=1)
        peer.type("Q")
        peer.wait_end()
        assert "Early data was not sent" in peer.said()
