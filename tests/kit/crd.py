"""What an API server would say of an object: the schema of a CustomResourceDefinition, applied without one.

Structure by jsonschema, x-kubernetes-validations by Google's CEL, and unknown fields as strict field validation
(kubectl's default) refuses them. Formats are judged as Go's net package would. Not simulated: pruning, defaults, and
what an expression may cost.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cel_expr_python import cel
from jsonschema import Draft202012Validator, FormatChecker

_CEL = cel.NewEnv(variables={"self": cel.Type.DYN})
_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("cidr")
def _is_cidr(text: object) -> bool:
    with contextlib.suppress(ValueError):
        return not isinstance(text, str) or ("/" in text and bool(ipaddress.ip_network(text, strict=False)))
    return False


@_FORMATS.checks("ipv4")
def _is_ipv4(text: object) -> bool:
    with contextlib.suppress(ValueError):
        return not isinstance(text, str) or bool(ipaddress.IPv4Address(text))
    return False


@_FORMATS.checks("ipv6")
def _is_ipv6(text: object) -> bool:
    with contextlib.suppress(ValueError):
        return not isinstance(text, str) or bool(ipaddress.IPv6Address(text))
    return False


class Definition:
    def __init__(self, path: Path) -> None:
        content = yaml.safe_load(path.read_text())
        self.kind: str = content["spec"]["names"]["kind"]
        (version,) = content["spec"]["versions"]
        self.version = f"{content['spec']['group']}/{version['name']}"
        self.schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
        self._validator = Draft202012Validator(self.schema, format_checker=_FORMATS)

    def refusals(self, value: dict[str, Any]) -> list[str]:
        """Where and why; none: it is accepted."""
        errors = [f"{error.json_path}: {error.message}" for error in self._validator.iter_errors(value)]
        return errors + list(unknown(self.schema, value, "$")) + list(rules(self.schema, value, "$"))


def unknown(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    for name, part, inside in children(schema, value, path):
        if part is None:
            yield f"{path}: unknown field {name}"
        else:
            yield from unknown(part, value[name], inside)


def rules(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if isinstance(value, dict) and not _CEL.compile(rule["rule"]).eval(data={"self": value}).plain_value():
            yield f"{path}: {rule['message']}"
    for name, part, inside in children(schema, value, path):
        yield from rules(part or {}, value[name], inside)


def children(schema: dict[str, Any], value: Any, path: str) -> Iterator[tuple[Any, dict[str, Any] | None, str]]:
    """Each part of a value with its schema, None where there is none."""
    if isinstance(value, list):
        for index in range(len(value)):
            yield index, schema.get("items", {}), f"{path}[{index}]"
    free = schema.get("x-kubernetes-preserve-unknown-fields") or (
        schema.get("type") == "object" and path == "$.metadata"
    )
    for name in value if isinstance(value, dict) and not free else ():
        part = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        yield name, part, f"{path}.{name}"


def nodes(schema: dict[str, Any], path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a schema."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name], f"{path}.{name}")
