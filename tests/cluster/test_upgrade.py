"""The demo shop in a cluster, and an upgrade under its visitor's load: agents first, then workers; no request fails."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.kubernetes import Kubernetes
from tests.cluster.mesh import HOME, ROOT, captured, install, run, status, uninstall, wait_ready
from tests.kit.wait import eventually

SERVICES = ("front", "catalog", "prices", "visitor")


@pytest.fixture
def shop(anywhere: Kubernetes) -> Iterator[Kubernetes]:
    install(anywhere)
    anywhere.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/demo/kubernetes"))
    for name in SERVICES:
        anywhere.wait_rollout(f"deployment/{name}", "shop", 60)
    yield anywhere
    anywhere.api.delete("/api/v1/namespaces/shop")
    uninstall(anywhere)


def visits(cluster: Kubernetes) -> dict[str, int]:
    """How the visitor's requests went until now, by outcome."""
    lines = cluster.kubectl("logs", "-n", "shop", "deployment/visitor", "--tail=1").splitlines()
    found: dict[str, int] = json.loads(lines[-1]) if lines else {}
    return found


def more_visits(cluster: Kubernetes, count: int = 40) -> None:
    before = sum(visits(cluster).values())
    eventually(lambda: sum(visits(cluster).values()) >= before + count, "the visitor to go on", 60)


def workers(cluster: Kubernetes) -> set[int]:
    return {worker["pid"] for node in cluster.nodes for worker in status(cluster, node)["workers"]}


@pytest.mark.timeout(400)
def test_no_visit_fails_while_agents_and_workers_are_replaced(shop: Kubernetes) -> None:
    eventually(lambda: len(captured(shop, "shop")) == 5, "the whole shop to be captured", 30)
    restarted = shop.kubectl(
        "rollout", "restart", "-n", "shop", "deployment/visitor"
    )  # what was before is another story
    assert restarted
    shop.wait_rollout("deployment/visitor", "shop", 60)
    eventually(lambda: visits(shop), "the first visits", 60)
    before = workers(shop)
    done = run("upgrade", "--set", "log_level=DEBUG", cluster=shop)
    assert "SEINE_LOG_LEVEL" in done.stderr
    shop.apply(done.stdout)
    more_visits(shop)
    wait_ready(shop)
    more_visits(shop)
    assert workers(shop) == before, "agents adopt the workers that they find"
    replaced = run("upgrade", "--workers", cluster=shop)
    assert replaced.returncode == 0, replaced.stderr
    more_visits(shop)
    assert not workers(shop) & before
    assert visits(shop).keys() == {"good"}
    daemons = shop.api.items(f"/apis/apps/v1/namespaces/{HOME}/daemonsets")
    assert all(each["status"]["updatedNumberScheduled"] == len(shop.nodes) for each in daemons)
