"""Labels and annotations -> how Seine shall treat a pod. A pod's word wins over its namespace's, setting by setting.

    label seine.dev/mesh: enabled | disabled                      config.seine.dev/skip-inbound-ports: 22,9000-9010
    seine.dev/fail: open | closed                                 config.seine.dev/skip-outbound-ports
    seine.dev/shortcut: enabled | disabled                        config.seine.dev/opaque-ports  (on a Service too)
    seine.dev/mtls: permissive | strict | disabled                seine.dev/weight: 1..1000  (Pod, EndpointSlice)
    seine.dev/balancer: ewma | round_robin  (Service)             seine.dev/cgroup: PATH  (Pod, standalone)
    seine.dev/netns: /run/netns/NAME  (Pod, standalone)           seine.dev/mtu: 1280..65535  (Node)

A value that is not understood is refused, never guessed: a misspelt `closed` must not mean open. A name of ours that
nobody reads where it stands is told, and refuses nothing: it may be a later version's. The cgroup is an absolute path,
or relative to the cgroup2 root; `root / path` is right for both.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from mesh.kube.documents import Path, shown
from mesh.kube.objects import Meta
from mesh.model import FailMode, Mtls, Value

OURS = "seine.dev"  # and whatever is below it
LABELS, ANNOTATIONS = "labels", "annotations"
KNOWN: dict[str, Placement] = {}


class Placement(Value):
    """Where a name of ours is read; elsewhere it says nothing to us."""

    place: str
    kinds: frozenset[str]


def named(name: str, *kinds: str, place: str = ANNOTATIONS) -> str:
    """Declares a name that objects of these kinds may have: what is not declared is told as a misspelling."""
    KNOWN[name] = Placement(place=place, kinds=frozenset(kinds))
    return name


MESH = named("seine.dev/mesh", "Namespace", "Pod", place=LABELS)
FAIL = named("seine.dev/fail", "Namespace", "Pod")
SHORTCUT = named("seine.dev/shortcut", "Namespace", "Pod")
MTLS = named("seine.dev/mtls", "Namespace", "Pod")
BALANCER = named("seine.dev/balancer", "Service")
WEIGHT = named("seine.dev/weight", "Pod", "EndpointSlice")
NETNS = named("seine.dev/netns", "Pod")
CGROUP = named("seine.dev/cgroup", "Pod")
AUTHZ_DEFAULT = named("seine.dev/authz-default", "Namespace")
DRY_RUN = named("seine.dev/dry-run", "AuthorizationPolicy")
MTU = named("seine.dev/mtu", "Node")
SKIP_INBOUND = named("config.seine.dev/skip-inbound-ports", "Namespace", "Pod")
SKIP_OUTBOUND = named("config.seine.dev/skip-outbound-ports", "Namespace", "Pod")
OPAQUE = named("config.seine.dev/opaque-ports", "Namespace", "Pod", "Service")

SWITCH = {"enabled": True, "disabled": False}
MTU_MIN, MTU_MAX = 1280, 65535  # what IPv6 needs at least, and what a packet can have
WEIGHT_MAX = 1000  # enough for one in a thousand, and 10^5 endpoints still sum up in 32 bits

T = TypeVar("T")


class BadField(ValueError):
    """Which field of an object was refused, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{spelled(path)}: {reason}" if path else reason)
        self.path, self.reason = path, reason


def spelled(path: Path) -> str:
    """As people write it: spec.ports[0].port, metadata.annotations[seine.dev/fail]."""
    steps = (f".{step}" if isinstance(step, str) and step.isalnum() else f"[{step}]" for step in path)
    return "".join(steps).lstrip(".")


class Settings(Value):
    """None: not said."""

    mesh: bool | None = None
    fail: FailMode | None = None
    shortcut: bool | None = None
    mtls: Mtls | None = None
    skip_inbound_ports: frozenset[int] | None = None
    skip_outbound_ports: frozenset[int] | None = None
    opaque_ports: frozenset[int] | None = None

    def over(self, base: Settings) -> Settings:
        """These settings, with those of `base` where nothing is said here."""
        return Settings(**{name: mine if (mine := getattr(self, name)) is not None else getattr(base, name)
                           for name in self.__struct_fields__})  # fmt: skip


def read_settings(meta: Meta) -> Settings:
    """Raises BadField."""
    return Settings(
        mesh=choice(meta, MESH, SWITCH, labels=True),
        fail=choice(meta, FAIL, {mode.value: mode for mode in FailMode}),
        shortcut=choice(meta, SHORTCUT, SWITCH),
        mtls=choice(meta, MTLS, {mode.value: mode for mode in Mtls}),
        skip_inbound_ports=ports(meta, SKIP_INBOUND),
        skip_outbound_ports=ports(meta, SKIP_OUTBOUND),
        opaque_ports=ports(meta, OPAQUE),
    )


def strangers(kind: str, meta: Meta) -> Iterator[BadField]:
    """Every name of ours on the object that is not read there, with what may be meant instead."""
    for place, said in ((LABELS, meta.labels), (ANNOTATIONS, meta.annotations)):
        for name in said or ():
            domain = name.partition("/")[0]
            if (domain == OURS or domain.endswith(f".{OURS}")) and (reason := _unread(kind, place, name)):
                yield BadField(("metadata", place, name), reason)


def _unread(kind: str, place: str, name: str) -> str:
    known = KNOWN.get(name)
    if known is None:
        near = difflib.get_close_matches(name, KNOWN, 1)
        return "not known here and ignored" + (f"; is {near[0]} meant?" if near else "")
    if kind not in known.kinds:
        return f"ignored on a {kind}; it is read on {' and '.join(sorted(known.kinds))}"
    return "" if place == known.place else f"ignored here; it is one of the {known.place}"


def annotation(meta: Meta, name: str) -> str | None:
    return (meta.annotations or {}).get(name)


def choice(meta: Meta, name: str, meanings: Mapping[str, T], labels: bool = False) -> T | None:
    text = (meta.labels or {}).get(name) if labels else annotation(meta, name)
    if text is None:
        return None
    if text not in meanings:
        path: Path = ("metadata", "labels" if labels else "annotations", name)
        raise BadField(path, f"{shown(text)}; it must be {' or '.join(meanings)}")
    return meanings[text]


def weight(meta: Meta) -> int | None:
    return whole_number(meta, WEIGHT, 1, WEIGHT_MAX)


def mtu(meta: Meta) -> int | None:
    return whole_number(meta, MTU, MTU_MIN, MTU_MAX)


def whole_number(meta: Meta, name: str, low: int, high: int) -> int | None:
    text = annotation(meta, name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high):
        reason = f"{shown(text)}; it must be a whole number from {low} to {high}"
        raise BadField(("metadata", "annotations", name), reason)
    return int(text)


def ports(meta: Meta, name: str) -> frozenset[int] | None:
    """ "25,587,4000-4100" as Linkerd writes it; empty text is an empty set, which overrides the namespace's."""
    text = annotation(meta, name)
    if text is None:
        return None
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = (side.strip() for side in part.partition("-"))
        bounds = [_port(side) for side in ((first, last) if dash else (first, first))]
        if not 1 <= bounds[0] <= bounds[1] <= 65535:
            reason = f"{shown(part)}; it must be ports from 1 to 65535 or ranges of them, like 25,4000-4100"
            raise BadField(("metadata", "annotations", name), reason)
        found.update(range(bounds[0], bounds[1] + 1))
    return frozenset(found)


def _port(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0


def path_setting(meta: Meta, name: str, absolute: bool) -> str:
    """A path without detours; "" when not said."""
    text: Any = annotation(meta, name)
    if text is None:
        return ""
    bad = not text or "\0" in text or ".." in text.split("/") or (absolute and not text.startswith("/"))
    if bad:
        kind = "an absolute path" if absolute else "an absolute path or one relative to the cgroup2 root"
        raise BadField(("metadata", "annotations", name), f"{shown(text)}; it must be {kind}, without '..'")
    return str(text)
