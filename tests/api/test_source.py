"""KubernetesSource against a server that misbehaves, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from mesh.config import ApiConfig
from mesh.kube.api import backoff, watching
from mesh.kube.api.source import KubernetesSource
from mesh.kube.objects import KINDS
from mesh.model import Snapshot
from tests.kit.kube_api import FakeApi, met

CONFIG = ApiConfig(settle_seconds=0, silence_seconds=30)


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting between attempts is tested in unit/kube/api; here it only takes time."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "SLOW_SECONDS", 0.05)


class Follower:
    """The snapshots of a source, as they come."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.seen: list[Snapshot] = []

    async def run(self) -> None:
        async for snapshot in self.source.watch():
            self.seen.append(snapshot)

    @property
    def last(self) -> Snapshot:
        return self.seen[-1] if self.seen else Snapshot()

    def services(self) -> list[str]:
        return [each.name for each in self.last.services]

    async def has(self, *names: str) -> None:
        await met(lambda: self.services() == sorted(names), f"Services {names}, not {self.services()}")

    async def says(self, *words: str) -> None:
        await met(lambda: any(all(w in each for w in words) for each in self.last.errors), f"an error with {words}")

    def lists(self, kind: str = "Service") -> int:
        return next(each.lists for each in self.source.watchers if each.kind.name == kind)


@contextlib.asynccontextmanager
async def following(api: FakeApi, config: ApiConfig = CONFIG, node: str = "node-1") -> AsyncIterator[Follower]:
    follower = Follower(KubernetesSource(api.access, node, config))
    task = asyncio.ensure_future(follower.run())
    try:
        yield follower
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run(test: Callable[[FakeApi], Awaitable[None]]) -> None:
    async def body() -> None:
        async with FakeApi() as api:
            await test(api)

    asyncio.run(body())


def service(name: str, vip: str = "10.96.0.1", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    meta = {"name": name, "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": vip, "ports": ports, **spec}}


def endpoint_slice(name: str, of: str, *addresses: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": of}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses] or None,
    }


@pytest.mark.parametrize("streams", [True, False], ids=["WatchList", "pages"])
def test_what_is_there_and_what_comes_and_goes_is_told(streams: bool) -> None:
    async def body(api: FakeApi) -> None:
        api.streams = streams
        for number in range(7):
            api.put(service(f"web-{number}", f"10.96.0.{number + 1}"))
        api.put(endpoint_slice("web-0-x", "web-0", "10.0.0.1"))
        async with following(api, ApiConfig(settle_seconds=0, page_objects=3)) as told:
            await told.has(*(f"web-{number}" for number in range(7)))
            assert len(told.seen) == 1, "one snapshot, when everything is known"
            assert [each.address for each in told.last.services[0].ports[0].endpoints] == ["10.0.0.1"]
            api.put(endpoint_slice("web-0-x", "web-0", "10.0.0.2"))
            await met(lambda: told.last.services[0].ports[0].endpoints[0].address == "10.0.0.2", "the change")
            api.delete(service("web-6"))
            await told.has(*(f"web-{number}" for number in range(6)))
            assert len(api.requests("Service", "limit=3")) == (0 if streams else 3)
            assert told.lists() == 1

    run(body)


def test_only_pods_of_this_node_are_asked_for() -> None:
    async def body(api: FakeApi) -> None:
        async with following(api) as told:
            await met(lambda: told.seen, "a snapshot")
            assert api.requests("Pod")
            assert api.requests("Pod") == api.requests("Pod", "fieldSelector=spec.nodeName%3Dnode-1")

    run(body)


def test_there_is_no_snapshot_before_every_kind_was_listed() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        api.refusals["EndpointSlice"] = 503
        async with following(api) as told:
            await met(lambda: len(api.requests("EndpointSlice")) > 3, "attempts")
            assert not told.seen
            del api.refusals["EndpointSlice"]
            await told.has("web")

    run(body)


@pytest.mark.parametrize(("status", "words"), [(403, "forbids"), (404, "installed")])
def test_a_kind_that_is_forbidden_or_not_installed_stops_no_other_and_is_noticed_later(status: int, words: str) -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        listed = [{"uid": "u", "namespace": "a", "name": "b", "addresses": ["10.0.1.1"], "serviceAccount": "d"}]
        there = {"kind": "MeshNode", "apiVersion": "seine.dev/v1alpha1", "metadata": {"name": "node-2"}}
        api.put(there | {"spec": {"workloads": listed}})
        api.refusals["MeshNode"] = status
        async with following(api) as told:
            await told.has("web")
            await told.says("MeshNode", words)
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")
            del api.refusals["MeshNode"]
            await met(lambda: [each.name for each in told.last.nodes] == ["node-2"], "the other node")
            assert told.last.errors == ()

    run(body)


def test_a_cut_connection_goes_on_where_it_was() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        async with following(api) as told:
            await told.has("web")
            api.cut()
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")
            assert told.lists() == 1

    run(body)


def test_a_version_too_old_is_followed_by_one_list_per_kind_and_what_is_gone_is_gone() -> None:
    async def body(api: FakeApi) -> None:
        for name, vip in (("web", "10.96.0.1"), ("db", "10.96.0.2")):
            api.put(service(name, vip))
        async with following(api) as told:
            await told.has("db", "web")
            api.cut()
            api.delete(service("db"))
            api.forget()
            await told.has("web")
            await met(lambda: told.last.errors == (), "no trouble")
            assert {each.lists for each in told.source.watchers} <= {1, 2}
            assert told.lists() == 2

    run(body)


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\n",
        b"{}\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"WHAT","object":{}}\n',
        b'{"type":"ADDED","object":[]}\n',
    ],
)
def test_garbage_in_a_watch_means_a_new_list_of_that_kind_only(line: bytes) -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        async with following(api) as told:
            await told.has("web")
            api.say("Service", line)
            await met(lambda: told.lists() == 2, "a second list")
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")
            assert told.lists("EndpointSlice") == 1
            assert told.source.watchers[3].failures == 1

    run(body)


def test_a_line_without_end_is_given_up() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        async with following(api) as told:
            await told.has("web")
            for _ in range(9):
                api.say("Service", b"x" * (1 << 20))
            await met(lambda: told.lists() == 2, "a second list")
            await told.has("web")

    run(body)


def test_a_watch_that_says_nothing_is_made_anew_without_a_list() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        async with following(api, ApiConfig(settle_seconds=0, silence_seconds=1)) as told:
            await told.has("web")
            await met(lambda: len(api.requests("Service", "resourceVersion=")) >= 2, "new watches")
            assert told.lists() == 1
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")

    run(body)


def test_an_object_that_breaks_its_schema_is_refused_alone_and_keeps_what_it_said() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        api.put(service("odd", "10.96.0.7", ports=[{"port": "eighty"}]))
        async with following(api) as told:
            await told.has("web")
            await told.says("Service shop/odd", "schema", "port")
            api.put(service("web", ports=[{"name": "http", "port": 70000}]))
            await told.says("Service shop/web", "70000", "stays")
            assert told.last.services[0].ports[0].port == 80
            api.put(service("odd", "10.96.0.7"))
            await told.has("odd", "web")
            api.delete(service("web"))
            await told.has("odd")
            assert told.last.errors == ()

    run(body)


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    async def body(api: FakeApi) -> None:
        api.streams = False
        for number in range(16):
            api.put(service(f"web-{number:02}", f"10.96.0.{number + 1}"))
        size = 8 * len(json.dumps(service("web-00", "10.96.0.10"))) + 600
        async with following(api, ApiConfig(settle_seconds=0, page_objects=16, page_bytes_max=size)) as told:
            await told.has(*(f"web-{number:02}" for number in range(16)))
            assert api.requests("Service", "limit=8")

    run(body)


@pytest.mark.parametrize("streams", [True, False])
def test_a_list_of_100_mib_arrives_object_by_object_or_page_by_page(streams: bool) -> None:
    """What is not read of an object is not kept either."""

    async def body(api: FakeApi) -> None:
        api.streams = streams
        for number in range(100):
            made = service(f"web-{number:03}", f"10.96.1.{number}")
            made["metadata"]["annotations"] = {"huge": "x" * (1 << 20)}
            api.put(made)
        async with following(api, ApiConfig(settle_seconds=0, page_objects=10)) as told:
            await told.has(*(f"web-{number:03}" for number in range(100)))
            assert told.lists() == 1
            assert len(msgspec.json.encode(told.last)) < 100_000

    run(body)


def test_a_list_of_100_mib_in_one_page_is_given_up_and_disturbs_no_other_kind() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        api.streams = False
        async with following(api) as told:
            await told.has("web")
            size = 100 << 20
            api.answers["EndpointSlice"] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{%s" % (
                size,
                b" " * (size - 1),
            )
            api.cut()
            await told.says("EndpointSlice", "bytes")
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")

    run(body)


def test_an_outage_leaves_what_was_known_and_is_told() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        async with following(api) as told:
            await told.has("web")
            port = api.port
            await api.stop()
            await told.says("not told at present", "Service")
            assert told.services() == ["web"]
            await api.start(port)
            await met(lambda: told.last.errors == (), "no trouble any more")
            assert told.lists() == 1

    run(body)


def test_where_one_kind_hears_of_the_server_again_the_others_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = itertools.chain([3600.0] * (len(KINDS) - 1), itertools.repeat(0.02))
    monkeypatch.setattr(watching, "delay", lambda *_, **__: next(waits))

    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        async with following(api) as told:
            await told.has("web")
            port = api.port
            await api.stop()
            await told.says(*KINDS)
            await api.start(port)
            await met(lambda: told.last.errors == (), "no trouble any more")

    run(body)


def test_an_outage_is_told_also_where_a_kind_was_never_there() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        api.refusals["MeshNode"] = 404
        async with following(api) as told:
            await told.has("web")
            port = api.port
            await api.stop()
            await told.says("not told at present", "MeshNode", "Service")
            await api.start(port)
            await told.says("no MeshNode objects")
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")

    run(body)


@pytest.mark.parametrize(("ahead", "word"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_server_whose_clock_is_an_hour_off_is_told_and_disturbs_nothing(ahead: float, word: str) -> None:
    async def body(api: FakeApi) -> None:
        api.ahead_seconds = ahead
        api.put(service("web"))
        async with following(api) as told:
            await told.has("web")
            assert [each for each in told.last.warnings if f"60 min {word}" in each]
            assert told.last.errors == ()
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")
            api.ahead_seconds = 0
            api.cut()
            await met(lambda: told.last.warnings == (), "no warning any more")

    run(body)


def test_a_token_that_is_not_known_any_more_is_fetched_anew() -> None:
    async def body(api: FakeApi) -> None:
        api.refusals["Service"] = 401
        async with following(api) as told:
            await met(lambda: api.access.forgotten > 1, "forgotten credentials")
            api.access.token = "second"
            del api.refusals["Service"]
            api.put(service("web"))
            await told.has("web")
            assert "bearer second" in api.tokens

    run(body)


def test_a_server_that_answers_no_http_disturbs_no_other_kind() -> None:
    async def body(api: FakeApi) -> None:
        api.put(service("web"))
        async with following(api) as told:
            await told.has("web")
            api.answers["EndpointSlice"] = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"
            api.cut()
            await told.says("EndpointSlice", "not HTTP/1.1")
            api.put(service("db", "10.96.0.2"))
            await told.has("db", "web")

    run(body)


def test_many_changes_at_once_are_few_snapshots() -> None:
    async def body(api: FakeApi) -> None:
        async with following(api, ApiConfig(settle_seconds=0.2)) as told:
            await met(lambda: told.seen, "the first snapshot")
            for number in range(200):
                api.put(service(f"web-{number:03}", f"10.97.0.{number}" if number else "10.97.1.1"))
            await met(lambda: len(told.services()) == 200, "all")
            assert len(told.seen) <= 5

    run(body)
