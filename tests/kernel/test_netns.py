"""Who is who among network namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mesh.node import netns
from tests.kit.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("netns") as lab:
        yield lab


def test_a_cookie_is_one_per_namespace_and_stays(lab):
    one, two = lab.pod("one"), lab.pod("two")
    cookies = [netns.cookie(one.netns), netns.cookie(two.netns), netns.own_cookie()]
    assert len(set(cookies)) == 3
    assert cookies[0] == netns.cookie(one.netns) == one.python(netns.own_cookie)


def test_an_errand_leaves_the_caller_where_it_was(lab):
    pod = lab.pod("errand")
    home = os.readlink("/proc/thread-self/ns/net")
    assert netns.inside(pod.netns, lambda: os.readlink("/proc/thread-self/ns/net")) != home
    assert os.readlink("/proc/thread-self/ns/net") == home


def test_an_errands_failure_reaches_the_caller(lab):
    def fail() -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        netns.inside(lab.pod("failing").netns, fail)


def test_addresses_of_a_pod(lab):
    pod = lab.pod("addressed")
    assert set(netns.addresses(pod.netns)) >= {pod.ip, pod.ip6, "127.0.0.1", "::1"}


def test_the_hosts_namespace_is_recognised_by_any_path(lab):
    assert netns.is_host("/proc/self/ns/net")
    assert netns.is_host(f"/proc/{os.getpid()}/ns/net")
    assert netns.is_host(lab.host_pod("host").netns)
    assert not netns.is_host(lab.pod("guest").netns)


def test_a_namespace_is_gone_when_its_path_vanishes_or_means_another(lab):
    first = lab.pod("first")
    inode = netns.inode(first.netns)
    assert not netns.gone(first.netns, inode)
    second = lab.pod("second")
    assert netns.gone(second.netns, inode)
    first.remove()
    assert netns.gone(first.netns, inode)


@pytest.mark.parametrize("path", ["/run/netns/never-was", "/proc/self/exe"])
def test_what_is_no_namespace_fails_in_words(path):
    with pytest.raises(OSError, match=f"the network namespace {path} cannot be"):
        netns.cookie(path)


def test_a_throw_away_namespace_is_empty_and_new():
    descriptor = netns.make()
    path = f"/proc/self/fd/{descriptor}"
    try:
        assert netns.cookie(path) != netns.own_cookie()
        assert not netns.is_host(path)
        assert netns.addresses(path) == ()
    finally:
        os.close(descriptor)
