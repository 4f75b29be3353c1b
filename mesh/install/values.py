"""What an operator may choose at installation: each with its default and reason. `seine install --set NAME=VALUE`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from mesh.config import LOG_LEVELS, WORKERS_MAX
from mesh.model import Mtls


class BadValue(ValueError):
    """A sentence for the operator."""


def value(default: Any, why: str) -> Any:
    return field(default=default, metadata={"why": why})


@dataclass(frozen=True, kw_only=True)
class Values:
    namespace: str = value("seine-system", "Seine's own; nothing else should live there")
    image: str = value("seine.dev/seine:0.1.0", "of agent and workers alike")
    pull_policy: str = value("IfNotPresent", "Always, IfNotPresent or Never, as Kubernetes means it")
    workers: int = value(2, "processes per node; two survive the death of one")
    mtls: str = value(
        "disabled", "permissive or strict once all nodes share an authority: until then they share no root"
    )
    trust_domain: str = value("cluster.local", "of every SPIFFE id")
    log_level: str = value("INFO", "DEBUG, INFO, WARNING or ERROR")
    monitors: bool = value(False, "a PodMonitor, and metrics on the node's network; the operator's CRDs must be there")

    def __post_init__(self) -> None:
        check(1 <= self.workers <= WORKERS_MAX, f"workers is {self.workers}; it must be 1 to {WORKERS_MAX}")
        check(self.log_level in LOG_LEVELS, f"log_level is {self.log_level!r}; it must be {' or '.join(LOG_LEVELS)}")
        check(self.mtls in list(Mtls), f"mtls is {self.mtls!r}; it must be {' or '.join(Mtls)}")
        policies = ("Always", "IfNotPresent", "Never")
        check(self.pull_policy in policies, f"pull_policy is {self.pull_policy!r}; it must be {' or '.join(policies)}")


def check(good: bool, sentence: str) -> None:
    if not good:
        raise BadValue(sentence)


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
        check(text in ("true", "false"), f"{name} is {text!r}; it must be true or false")
        return text == "true"
    try:
        return kind(text)
    except ValueError:
        raise BadValue(f"{name} is {text!r}; it must be a whole number") from None
