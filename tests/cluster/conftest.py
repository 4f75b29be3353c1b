"""One cluster for all tests of this folder: it costs ten seconds. Each test takes a namespace of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from tests.cluster import mesh
from tests.cluster.cluster import Cluster
from tests.cluster.kubernetes import Abroad, Kubernetes

_serial = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster("cluster") as up:
        yield up


@pytest.fixture(scope="session")
def loaded(cluster: Cluster) -> Cluster:
    """With Seine's image on every node."""
    mesh.load(cluster)
    return cluster


@pytest.fixture(scope="session")
def anywhere(request: pytest.FixtureRequest) -> Kubernetes:
    """The cluster of KUBECONFIG, if it is set, else ours; Seine's image is there."""
    if kubeconfig := os.environ.get("KUBECONFIG"):
        return Abroad(kubeconfig)
    ours: Cluster = request.getfixturevalue("loaded")
    return ours


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh one; it goes, with all that is in it, when the test is over."""
    name = f"test-{next(_serial)}"
    cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    cluster.api.delete(f"/api/v1/namespaces/{name}")
