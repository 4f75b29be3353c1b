"""What another node is told of a caller."""

from __future__ import annotations

from mesh.control.baggage import describe
from mesh.model import Workload


def test_a_workload_is_described_in_istios_words() -> None:
    web = Workload(
        uid="u", namespace="shop", name="web-1-x", addresses=(), owner="web", app="web", version="v2", zone="eu-1a"
    )
    assert describe(web) == (
        "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,"
        "service.version=v2,cloud.availability_zone=eu-1a"
    )


def test_what_is_not_known_is_not_said() -> None:
    bare = Workload(uid="u", namespace="shop", name="web-1-x", addresses=())
    assert describe(bare) == "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web-1-x"
