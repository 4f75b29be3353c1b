"""Probes that only look: what passes, and what is said when something does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.capture import preflight, trials
from mesh.capture.objects import KernelError

ROOT = "CapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n"
WITHOUT_BPF = ROOT.replace("CapEff:\t000001ffffffffff", "CapEff:\t0000017fffffffff")


@pytest.mark.parametrize(
    ("release", "ok"),
    [
        ("6.1.0-31-amd64", True),
        ("6.8.0-45-generic", True),
        ("6.1.0", True),
        ("10.0", True),
        ("6.0.19", False),
        ("4.19.0", False),
        ("what", False),
    ],
)
def test_kernel_version(release, ok):
    probe = preflight.kernel_version(release)
    assert probe.ok is ok
    assert (release in probe.hint) is not ok


@pytest.mark.parametrize(
    ("status", "missing"),
    [(ROOT, []), (WITHOUT_BPF, ["CAP_BPF"]), ("CapEff:\t0000000000000000\n", ["CAP_NET_ADMIN", "CAP_BPF", "CAP_KILL"])],
)
def test_capabilities_that_are_missing_are_named(status, missing):
    probe = preflight.capabilities(status)
    assert probe.ok is not bool(missing)
    assert all(name in probe.hint for name in missing)


@pytest.mark.parametrize(
    ("probe", "ok", "hint"),
    [
        (preflight.open_files(65536), True, ""),
        (preflight.open_files(-1), True, ""),  # unlimited
        (preflight.open_files(1024), False, "about 409 connections"),
        (preflight.backlog(4096), True, ""),
        (preflight.backlog(128), False, "it is 128"),
        (preflight.btf(Path("/")), True, ""),
        (preflight.btf(Path("/never/was")), False, "CONFIG_DEBUG_INFO_BTF"),
        (preflight.node_name("n1", False, []), True, ""),
        (preflight.node_name("n1", False, [Path("/x/n1")]), False, "left /x/n1"),
        (preflight.node_name("n1", True, [Path("/x/n1")]), False, "an agent serves it"),
    ],
)
def test_what_seine_can_do_without_is_no_failure(probe, ok, hint):
    assert probe.ok is ok
    assert hint in probe.hint
    assert not probe.required


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OSError(95, "Operation not supported"), "Operation not supported; it is needed"),
        (KernelError("the kernel refused it"), "the kernel refused it; it is needed"),
    ],
)
def test_a_trial_that_fails_says_why_and_what_for(error, hint):
    def fail() -> None:
        raise error

    assert trials.tried("thing", "it is needed", fail) == trials.Probe(name="thing", ok=False, hint=hint)
    assert trials.tried("thing", "it is needed", lambda: None) == trials.Probe(name="thing", ok=True)
