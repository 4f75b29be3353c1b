"""An Authorization as the arrays of cext/authz.h: each list of values once in one array per kind, named by its range.

Plain values in the shape that cffi takes; `mesh.forward.engine` makes memory of them. It decides nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from mesh.model import Authorization, AuthorizationPolicy, AuthzAction, AuthzOperation, AuthzRule, AuthzSource, Pattern

ACTIONS = {AuthzAction.DENY: 0, AuthzAction.ALLOW: 1, AuthzAction.AUDIT: 2}
ARRAYS = {  # field of struct authz -> its type and its counter
    "policies": ("struct authz_policy", "policy_count"),
    "rules": ("struct authz_rule", "rule_count"),
    "sources": ("struct authz_source", "source_count"),
    "operations": ("struct authz_operation", "operation_count"),
    "texts": ("struct authz_text", "text_count"),
    "blocks": ("struct authz_block", "block_count"),
    "ports": ("uint16_t", "port_count"),
    "bytes": ("uint8_t", "byte_count"),
}

T = TypeVar("T")
Range = tuple[int, int]


class Arrays:
    def __init__(self, authorization: Authorization) -> None:
        self.default_deny = int(authorization.default_deny)
        self.content: dict[str, list[Any]] = {name: [] for name in ARRAYS}
        self._add("policies", [self._policy(each) for each in authorization.policies])

    def _add(self, name: str, values: Iterable[object]) -> Range:
        array = self.content[name]
        first = len(array)
        array.extend(values)
        return first, len(array) - first

    def _each(self, name: str, values: Sequence[T], make: Callable[[T], object]) -> Range:
        return self._add(name, [make(each) for each in values])

    def _policy(self, policy: AuthorizationPolicy) -> tuple[object, ...]:
        rules = self._each("rules", policy.rules, self._rule)
        return policy.id, rules, ACTIONS[policy.action], int(policy.dry_run)

    def _rule(self, rule: AuthzRule) -> tuple[Range, Range]:
        return (
            self._each("sources", rule.sources, self._source),
            self._each("operations", rule.operations, self._operation),
        )

    def _source(self, source: AuthzSource) -> tuple[Range, ...]:
        return (
            self._each("texts", source.principals, self._text),
            self._each("texts", source.not_principals, self._text),
            self._each("texts", source.namespaces, self._text),
            self._each("texts", source.not_namespaces, self._text),
            self._each("blocks", source.ip_blocks, block),
            self._each("blocks", source.not_ip_blocks, block),
        )

    def _operation(self, operation: AuthzOperation) -> tuple[Range, ...]:
        return (
            self._each("texts", operation.hosts, self._text),
            self._each("texts", operation.not_hosts, self._text),
            self._each("texts", operation.methods, self._text),
            self._each("texts", operation.not_methods, self._text),
            self._each("texts", operation.paths, self._text),
            self._each("texts", operation.not_paths, self._text),
            self._add("ports", operation.ports),
            self._add("ports", operation.not_ports),
        )

    def _text(self, pattern: Pattern) -> tuple[int, int, int]:
        return (*self._add("bytes", pattern.text.encode()), int(pattern.how))


def block(text: str) -> tuple[bytes, int]:
    """Sixteen bytes and how many of their bits count; IPv4 as ::ffff:a.b.c.d."""
    network = ipaddress.ip_network(text)
    packed = network.network_address.packed
    if network.version == 4:
        return b"\0" * 10 + b"\xff\xff" + packed, 96 + network.prefixlen
    return packed, network.prefixlen
