"""What this node says of itself to the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from msgspec import structs

from mesh.kube.api.publication import ApiBoard, lease
from mesh.kube.publication import PublicationError
from mesh.model import MeshNode
from tests.kit.builders import mesh_node, workload
from tests.kit.kube_api import FakeApi, met

PATH = "/apis/seine.dev/v1alpha1/meshnodes"


def listing(*pods: str) -> MeshNode:
    several = [workload(each, f"10.1.0.{index}", node="n1") for index, each in enumerate(pods, 1)]
    return mesh_node("n1", *(structs.replace(each, owner=each.name, version="latest") for each in several))


def run(
    test: Callable[[FakeApi, ApiBoard], Awaitable[None]], heard: Callable[[], MeshNode | None] = lambda: None
) -> None:
    async def body() -> None:
        async with FakeApi() as api:
            board = ApiBoard(api.access, "n1", "seine-system", heard)
            try:
                await test(api, board)
            finally:
                board.close()

    asyncio.run(body())


def test_a_successor_reads_what_was_said():
    async def body(api: FakeApi, board: ApiBoard) -> None:
        assert await board.former() is None
        await board.say(listing("a", "b"))
        assert await board.former() == listing("a", "b")
        assert api.asked[1] == f"PATCH {PATH}/n1?fieldManager=seine-agent&force=true"

    run(body)


def test_what_is_no_list_of_ours_is_no_former_one():
    async def body(api: FakeApi, board: ApiBoard) -> None:
        api.put({"kind": "MeshNode", "metadata": {"name": "n1"}, "spec": {"workloads": "all"}})
        assert await board.former() is None

    run(body)


def test_a_refusal_is_a_sentence_and_the_next_attempt_counts():
    async def body(api: FakeApi, board: ApiBoard) -> None:
        api.refusals["MeshNode"] = 403
        with pytest.raises(PublicationError, match="meshnodes/n1: 403 MeshNode is refused; the others know the last"):
            await board.say(listing("a"))
        del api.refusals["MeshNode"]
        await board.say(listing("a"))

    run(body)


def test_a_server_that_is_away_is_a_sentence():
    async def body(api: FakeApi, board: ApiBoard) -> None:
        await api.stop()
        with pytest.raises(PublicationError, match=r"does not answer PATCH .*; the others know the last one"):
            await board.say(listing("a"))
        await api.start(api.port)

    run(body)


def test_the_lease_is_renewed_by_a_server_side_apply():
    async def body(api: FakeApi, board: ApiBoard) -> None:
        task = asyncio.ensure_future(board.run())
        await met(lambda: api.applied, "a Lease")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        path, found = next(iter(api.applied.items()))
        assert path == "/apis/coordination.k8s.io/v1/namespaces/seine-system/leases/seine-agent-n1"
        assert found["spec"]["holderIdentity"] == "n1"

    run(body)


def test_an_event_that_was_told_before_or_whose_pod_is_gone_is_told():
    async def body(api: FakeApi, board: ApiBoard) -> None:
        for status in (201, 409, 404):
            api.created = status
            await board.tell("1", "shop", "web", "Leaking", "why", warning=True)
        api.created = 403
        with pytest.raises(PublicationError, match=r"refuses POST /api/v1/namespaces/shop/events: 403 POST$"):
            await board.tell("1", "shop", "web", "Leaking", "why", warning=True)

    run(body)


def test_times_of_a_lease_are_as_kubernetes_writes_them():
    found = lease("n1", "seine-system", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert found["spec"]["renewTime"] == "2026-01-02T03:04:05.000006Z"
