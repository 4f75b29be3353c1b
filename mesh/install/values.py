"""What an operator may choose at installation: each with its default, bounds and reason.

`seine install --set NAME=VALUE` and `helm install --set NAME=VALUE` know the same names; the chart's schema is made
from what is said here (deploy/render).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from mesh.config import LOG_LEVELS, WORKERS_MAX
from mesh.model import Mtls

VERSION = "0.1.0"  # pyproject.toml's
NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"  # RFC 1123 label
IMAGE = r"[A-Za-z0-9][-A-Za-z0-9._/:@]{0,511}"
FOLDER = r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+"
DOMAIN = r"[a-z0-9._-]{1,255}"  # SPIFFE-ID 1.0, section 2.1


class BadValue(ValueError):
    """A sentence for the operator."""


def value(default: Any, why: str, *, among: Iterable[str] = (), pattern: str = "", low: int = 0, high: int = 0) -> Any:
    """`pattern` is of the whole text; `low` to `high` when `high` is given."""
    return field(
        default=default,
        metadata={"why": why, "among": tuple(map(str, among)), "pattern": pattern, "low": low, "high": high},
    )


@dataclass(frozen=True, kw_only=True)
class Values:
    namespace: str = value("seine-system", "Seine's own; nothing else should live there", pattern=NAME)
    image: str = value(f"seine.dev/seine:{VERSION}", "of agent and workers alike", pattern=IMAGE)
    pull_policy: str = value("IfNotPresent", "as Kubernetes means it", among=("Always", "IfNotPresent", "Never"))
    workers: int = value(2, "processes per node; two survive the death of one", low=1, high=WORKERS_MAX)
    controllers: int = value(2, "replicas of the controller; one decides, all sign", low=1, high=9)
    mtls: str = value(
        "permissive", "for pods that say nothing; strict refuses plaintext, disabled lists nobody", among=Mtls
    )
    root_given: bool = value(
        False,
        "our Secret seine-root has the root, as cert-manager makes it, and we sign with that; else we make one",
    )
    trust_domain: str = value("cluster.local", "of every SPIFFE id", pattern=DOMAIN)
    log_level: str = value("INFO", "DEBUG names every connection that asked for a plan", among=LOG_LEVELS)
    cni: bool = value(True, "pods are in the mesh before their first packet; false: a moment after their start")
    cni_conf: str = value("/etc/cni/net.d", "the nodes' CNI configurations; k3s has them elsewhere", pattern=FOLDER)
    cni_bin: str = value("/opt/cni/bin", "the nodes' CNI plugins; likewise", pattern=FOLDER)
    monitors: bool = value(
        False, "PodMonitor and ServiceMonitor, and metrics on the node's network; the operator's CRDs must be there"
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each.name, getattr(self, each.name), each.metadata)


def _check(name: str, found: Any, meta: Any) -> None:
    said = f"{name} is {found!r}; it must be"
    if meta["among"] and found not in meta["among"]:
        raise BadValue(f"{said} {' or '.join(meta['among'])}")
    if meta["high"] and not meta["low"] <= found <= meta["high"]:
        raise BadValue(f"{said} {meta['low']} to {meta['high']}")
    if meta["pattern"] and not re.fullmatch(meta["pattern"], found):
        raise BadValue(f"{said} of the form {meta['pattern']}")


def chosen(said: Iterable[str], **given: str) -> Values:
    """From NAME=VALUE each. Raises BadValue."""
    kinds = get_type_hints(Values)
    found: dict[str, Any] = dict(given)
    for each in said:
        name, equals, text = each.partition("=")
        if not equals or name not in kinds:
            known = ", ".join(one.name for one in fields(Values))
            raise BadValue(f"--set {each}: it must be NAME=VALUE, and these names there are: {known}")
        found[name] = _read(name, text, kinds[name])
    return Values(**found)


def _read(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise BadValue(f"{name} is {text!r}; it must be true or false")
        return text == "true"
    try:
        return kind(text)
    except ValueError:
        raise BadValue(f"{name} is {text!r}; it must be a whole number") from None
