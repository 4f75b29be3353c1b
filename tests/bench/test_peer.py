"""Peers are found as folders, ours and others'; the benches name only what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.__main__ import COMPARED
from tests.bench.bench import Bench
from tests.bench.connect import Connect
from tests.bench.http1 import Http1
from tests.bench.memory import Memory
from tests.bench.mtls import Mtls
from tests.bench.peer import Mode, Peer, folders, load
from tests.bench.run import kinds
from tests.bench.tcp import Tcp

OTHER = """
from tests.bench.peer import Peer
class Other(Peer):
    def start(self): ...
    def address(self): return "127.0.0.1", 1
    def carried(self): return 0
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/peer.py").write_text(OTHER)
    return tmp_path


@pytest.mark.parametrize("kind", COMPARED)
def test_every_peer_of_a_bench_exists_and_speaks_its_mode(kind: type[Bench]) -> None:
    bench = kind(quick=False)
    for peer in kinds(bench, [], None).values():
        assert issubclass(peer, Peer)
        assert peer.modes & set(bench.modes)


@pytest.mark.parametrize("kind", [Http1, Tcp, Connect, Memory, Mtls])
def test_envoy_has_the_first_turn_because_it_sets_the_rate(kind: type[Bench]) -> None:
    assert next(iter(kinds(kind(quick=True), [], None))) in ("envoy", "envoy_pair")


def test_a_folder_from_elsewhere_is_one_more_peer(elsewhere: Path) -> None:
    found = kinds(Http1(quick=True), [elsewhere], None)
    assert list(found)[-1] == "other"
    assert found["other"].modes == {Mode.HTTP, Mode.TCP}


def test_a_folder_must_define_one_peer(elsewhere: Path) -> None:
    (elsewhere / "empty").mkdir()
    (elsewhere / "empty/peer.py").write_text("from tests.bench.peer import Peer\n")
    with pytest.raises(ValueError, match="must define one Peer, not 0"):
        load(elsewhere / "empty")


def test_only_picks_among_them(elsewhere: Path) -> None:
    assert list(kinds(Http1(quick=False), [elsewhere], ["direct", "other"])) == ["direct", "other"]


def test_each_proxy_comes_with_its_configuration() -> None:
    for name in ("envoy", "haproxy", "nginx", "envoy_pair", "haproxy_pair"):
        assert len(list(folders()[name].iterdir())) >= 2
