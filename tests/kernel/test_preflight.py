"""`seine check` tries what it speaks of, says what is missing in words, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.capture import preflight, programs, trials
from mesh.capture.objects import KernelError
from mesh.capture.pins import cgroup2_root
from mesh.capture.trials import Probe
from mesh.node import sockdiag
from tests.kit.leftovers import remove_cgroup
from tests.kit.spawn import call

NODE = f"check{os.getpid()}"


def descriptors() -> list[str]:
    listed = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(path) for path in listed if os.path.lexists(path))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before  # links and programs go with their descriptors
    assert not (cgroup2_root() / f".seine-check-{os.getpid()}").exists()


def failed(probes: Iterator[Probe]) -> dict[str, str]:
    return {probe.name: probe.hint for probe in probes if not probe.ok and probe.required}


def test_this_machine_has_all_that_is_required():
    probes = list(preflight.probes(NODE))
    assert failed(iter(probes)) == {}
    names = [probe.name for probe in probes]
    assert len(set(names)) == len(names)
    assert {f"BPF hook {hook} loads and attaches" for hook in trials.PURPOSE} <= set(names)


def test_without_root_it_says_so_and_stops():
    probes = call(lambda: os.setresuid(65534, 65534, 65534), lambda: list(preflight.probes()), 10)
    hints = failed(iter(probes))
    assert list(hints) == ["all capabilities of root are there"]
    assert "run as root" in hints["all capabilities of root are there"]
    assert "BPF programs compile" not in [probe.name for probe in probes]


def test_a_missing_compiler_is_named_with_its_package(monkeypatch):
    def compiled(source: Path) -> None:
        raise KernelError("compiling the BPF programs failed: bcc is missing")

    monkeypatch.setattr(trials, "compiled", compiled)
    hints = failed(preflight.probes())
    assert list(hints) == ["BPF programs compile"]
    assert "python3-bpfcc" in hints["BPF programs compile"]


def test_a_program_that_the_kernel_refuses_says_what_cannot_be_without_it(monkeypatch):
    original = programs.load

    def load(hook: programs.Hook, code: bytes) -> int:
        if hook.name == "sk_lookup":
            code = struct.pack("<BBhi", 0x85, 0, 0, 9999) + code  # a helper that no kernel has
        return original(hook, code)

    monkeypatch.setattr(trials, "load", load)
    hints = failed(preflight.probes())
    assert list(hints) == ["BPF hook sk_lookup loads and attaches"]
    assert "invalid func" in hints["BPF hook sk_lookup loads and attaches"]
    assert "inbound connections cannot be captured" in hints["BPF hook sk_lookup loads and attaches"]


def test_an_effect_that_is_not_seen_is_a_failure(monkeypatch):
    let_through = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
    monkeypatch.setattr(trials, "REFUSE", let_through)
    hints = failed(preflight.probes())
    assert list(hints) == ["BPF program chooses the error of connect"]
    assert "although the program refused it" in hints["BPF program chooses the error of connect"]


def test_a_kernel_that_ends_no_connections_is_good_enough(monkeypatch):
    def destroy(sock: object, connection: object) -> bool:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(sockdiag, "destroy", destroy)
    probes = list(preflight.probes())
    (probe,) = [probe for probe in probes if "SOCK_DESTROY" in probe.name]
    assert not probe.ok
    assert "CONFIG_INET_DIAG_DESTROY" in probe.hint
    assert failed(iter(probes)) == {}


def test_what_an_agent_left_is_found():
    left = cgroup2_root() / f"seine-{NODE}"
    left.mkdir()
    try:
        *_, last = preflight.probes(NODE)
        assert not last.ok
        assert str(left) in last.hint
        assert "seine clean" in last.hint
    finally:
        remove_cgroup(left)
