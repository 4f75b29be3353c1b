"""A pod as the hooks see it."""

from __future__ import annotations

from typing import Any

from mesh.capture._bpf import lib
from mesh.capture.objects import text, unpack
from mesh.capture.pods import pack_pod
from mesh.model import FailMode, Mtls, Pod, Workload


def packed(*addresses: str, **settings: Any) -> Any:
    workload = Workload(uid="u", namespace="n", name="p", addresses=addresses)
    return unpack("pod", pack_pod(Pod(workload=workload, netns="/run/netns/p", **settings), 77))


def test_the_first_address_of_each_family_counts():
    found = packed("fd00::1", "10.0.0.1", "10.0.0.2", "fd00::2")
    assert found.netns == 77
    assert text(found.ip6) == "fd00::1"
    assert found.ip4.to_bytes(4, "little") == bytes([10, 0, 0, 1])
    assert found.flags == lib.POD_ENROLLED | lib.POD_IP4 | lib.POD_IP6


def test_a_family_without_address_is_not_claimed():
    assert packed("10.0.0.1").flags == lib.POD_ENROLLED | lib.POD_IP4
    assert packed("fd00::1").flags == lib.POD_ENROLLED | lib.POD_IP6


def test_settings_are_flags():
    found = packed("10.0.0.1", fail_mode=FailMode.CLOSED, shortcut=True)
    assert found.flags & lib.POD_CLOSED
    for mode in Mtls:
        assert bool(packed("10.0.0.1", mtls=mode).flags & lib.POD_STRICT) == (mode is Mtls.STRICT)
    assert found.flags & lib.POD_SHORTCUT
