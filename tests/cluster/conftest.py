"""One cluster for all tests of this folder: it costs ten seconds. Each test takes a namespace of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from deploy.image import build
from tests.cluster.cluster import Cluster

_serial = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster("cluster") as up:
        yield up


@pytest.fixture(scope="session")
def loaded(cluster: Cluster) -> Cluster:
    """With Seine's image on every node."""
    cluster.load([build.build(cluster.lab.directory / "seine.tar")])
    return cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh one; it goes, with all that is in it, when the test is over."""
    name = f"test-{next(_serial)}"
    cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    cluster.api.delete(f"/api/v1/namespaces/{name}")
