"""An AuthorizationPolicy, as it is written -> rules that mean what they say, or BadField.

The shape and the meaning are Istio's; what we cannot hold to is refused, never left out, because a condition that is
left out makes a rule match more than its author wanted. So is what could never match, or would match by accident: a
DENY that denies nobody looks like protection. deploy/crds/ says the same to an API server; a test compares the two.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TypeVar

from mesh.kube import objects
from mesh.kube.documents import Path, shown
from mesh.kube.settings import DRY_RUN, BadField, choice
from mesh.model import (
    AuthorizationPolicy,
    AuthzAction,
    AuthzOperation,
    AuthzRule,
    AuthzSource,
    Match,
    Pattern,
    Value,
)

VALUES_MAX = 256  # per list; each is compared for each request
RULES_MAX = 128
ALTERNATIVES_MAX = 64  # of `from`, and of `to`
TEXT_MAX = 600  # characters; the longest SPIFFE id of Kubernetes has 577
LABELS_MAX = 64
LABEL_MAX = 63  # characters of a value: Kubernetes'
WILDCARD = "with one * at most, at the beginning or at the end"
UNHONOURED = "not supported, and without it the policy would mean something else"

# The forms of values, one * at most, at the beginning or at the end. Regular expressions without lookahead, because API
# servers have none (RE2): deploy/crds/ has the very same.
PORT = "^([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
PRINCIPAL = r"^(\*|\*[A-Za-z0-9._/-]+|[A-Za-z0-9._/-]+\*|[A-Za-z0-9._-]+/ns/[a-z0-9-]+/sa/[a-z0-9.-]+)$"
NAMESPACE = r"^(\*|\*?[a-z0-9-]+|[a-z0-9-]+\*)$"
HOST = r"^(\*|\*?[A-Za-z0-9._-]+|[A-Za-z0-9._-]+\*|\[[0-9A-Fa-f:.]+\])$"
METHOD = r"^(\*|\*?[A-Z0-9_-]+|[A-Z0-9_-]+\*)$"


def _path_form() -> str:
    """Paths in the normal form of mesh.identity.normal, and what they can begin and end with."""
    escape = (  # %XX of what may not stand for itself and is neither a slash, a backslash, a semicolon nor NUL
        "%(0[1-9A-Fa-f]|1[0-9A-Fa-f]|2[0235]|3[CEFcef]|5[BDEbde]|60|7[B-DFb-df]|[89A-Fa-f][0-9A-Fa-f])"
    )
    every, no_dot = rf"([!$&-)+-.0-;=@-Z_a-z~]|{escape})", rf"([!$&-)+-\-0-;=@-Z_a-z~]|{escape})"
    neither, no_semicolon = rf"([!$&-)+-\-0-:=@-Z_a-z~]|{escape})", rf"([!$&-)+-.0-:=@-Z_a-z~]|{escape})"
    segment = rf"({no_dot}|\.{neither}|\.\.{no_semicolon}){every}*"  # but no ".", "..", ".;" and "..;"
    exact, prefix = f"/({segment}(/{segment})*/?)?", rf"/({segment}/)*({segment}|\.\.?)?\*"
    return rf"^(\*|{exact}|{prefix}|\*{every}*(/{segment})*/?)$"


PATH = _path_form()

T = TypeVar("T")
V = TypeVar("V")


class PolicyFacts(Value):
    policy: AuthorizationPolicy

    @property
    def title(self) -> str:
        return f"AuthorizationPolicy {self.policy.namespace}/{self.policy.name}"


def parse_policy(raw: objects.AuthorizationPolicy, namespace: str, name: str) -> PolicyFacts:
    """Raises BadField."""
    spec = raw.spec
    _refuse(spec, ("spec",), {
        "target_ref": "there is no gateway or waypoint here that it could name; use selector",
        "target_refs": "there is no gateway or waypoint here that it could name; use selector",
        "provider": "there are no external authorizers",
    })  # fmt: skip
    if spec.action not in tuple(AuthzAction):
        custom = "; there are no external authorizers" if spec.action == "CUSTOM" else ""
        raise BadField(("spec", "action"), f"{shown(spec.action)}; it must be ALLOW, DENY or AUDIT{custom}")
    action = AuthzAction(spec.action)
    rules = _each(spec.rules, ("spec", "rules"), RULES_MAX, _rule, least=0)
    if not rules and action is not AuthzAction.ALLOW:
        raise BadField(("spec",), f"a {action} policy without rules matches nothing; a rule {{}} matches everything")
    policy = AuthorizationPolicy(
        namespace=namespace,
        name=name,
        action=action,
        rules=rules,
        selector=_selector(spec.selector),
        dry_run=choice(raw.metadata, DRY_RUN, {"true": True, "false": False}) or False,
    )
    return PolicyFacts(policy=policy)


def _refuse(raw: objects.Raw, path: Path, reasons: dict[str, str]) -> None:
    """Fields of Istio's that we know and cannot honour."""
    for name, reason in reasons.items():
        if getattr(raw, name) is not None:
            spelled = re.sub(r"_(.)", lambda found: found[1].upper(), name)
            raise BadField((*path, spelled), f"{UNHONOURED}: {reason}")


def _each(raw: list[T] | None, path: Path, most: int, parse: Callable[[T, Path], V], least: int = 1) -> tuple[V, ...]:
    """Not the same as absent is an empty list to its author; so it is refused."""
    if raw is None:
        return ()
    if len(raw) < least:
        raise BadField(path, "an empty list; leave it out")
    if len(raw) > most:
        raise BadField(path, f"{len(raw)} entries; at most {most} are allowed")
    return tuple(parse(each, (*path, index)) for index, each in enumerate(raw))


def _selector(raw: objects.PolicySelector | None) -> tuple[tuple[str, str], ...]:
    labels = (raw.match_labels if raw else None) or {}
    path: Path = ("spec", "selector", "matchLabels")
    if len(labels) > LABELS_MAX:
        raise BadField(path, f"{len(labels)} labels; at most {LABELS_MAX} are allowed")
    for key, value in labels.items():
        if not key or "*" in key or "*" in value or len(value) > LABEL_MAX:
            raise BadField((*path, key), f"{shown(value)}; labels are compared as they are: no empty key, no wildcard")
    return tuple(sorted(labels.items()))


def _rule(raw: objects.PolicyRule, path: Path) -> AuthzRule:
    _refuse(raw, path, {"when": "conditions are not evaluated here"})
    return AuthzRule(
        sources=_each(raw.from_, (*path, "from"), ALTERNATIVES_MAX, _from),
        operations=_each(raw.to, (*path, "to"), ALTERNATIVES_MAX, _to),
    )


def _from(raw: objects.PolicyFrom, path: Path) -> AuthzSource:
    source, path = raw.source, (*path, "source")
    tokens, proxies = (
        "tokens of end users are not looked at",
        "no proxy's word is taken for who called; use ipBlocks",
    )
    accounts = "write them as principals: TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
    _refuse(source, path, {
        "request_principals": tokens,
        "not_request_principals": tokens,
        "remote_ip_blocks": proxies,
        "not_remote_ip_blocks": proxies,
        "service_accounts": accounts,
        "not_service_accounts": accounts,
    })  # fmt: skip
    found = AuthzSource(
        principals=_each(source.principals, (*path, "principals"), VALUES_MAX, _principal),
        not_principals=_each(source.not_principals, (*path, "notPrincipals"), VALUES_MAX, _principal),
        namespaces=_each(source.namespaces, (*path, "namespaces"), VALUES_MAX, _namespace),
        not_namespaces=_each(source.not_namespaces, (*path, "notNamespaces"), VALUES_MAX, _namespace),
        ip_blocks=_each(source.ip_blocks, (*path, "ipBlocks"), VALUES_MAX, _block),
        not_ip_blocks=_each(source.not_ip_blocks, (*path, "notIpBlocks"), VALUES_MAX, _block),
    )
    if found == AuthzSource():
        raise BadField(path, "it says nothing; leave out `from` for anybody")
    return found


def _to(raw: objects.PolicyTo, path: Path) -> AuthzOperation:
    operation, path = raw.operation, (*path, "operation")
    found = AuthzOperation(
        hosts=_each(operation.hosts, (*path, "hosts"), VALUES_MAX, _host),
        not_hosts=_each(operation.not_hosts, (*path, "notHosts"), VALUES_MAX, _host),
        ports=_each(operation.ports, (*path, "ports"), VALUES_MAX, _port),
        not_ports=_each(operation.not_ports, (*path, "notPorts"), VALUES_MAX, _port),
        methods=_each(operation.methods, (*path, "methods"), VALUES_MAX, _method),
        not_methods=_each(operation.not_methods, (*path, "notMethods"), VALUES_MAX, _method),
        paths=_each(operation.paths, (*path, "paths"), VALUES_MAX, _path),
        not_paths=_each(operation.not_paths, (*path, "notPaths"), VALUES_MAX, _path),
    )
    if found == AuthzOperation():
        raise BadField(path, "it says nothing; leave out `to` for anything")
    return found


# --- one value


def _of(text: str, path: Path, form: str, reason: str) -> str:
    if len(text) > TEXT_MAX:
        raise BadField(path, f"{len(text)} characters; at most {TEXT_MAX} are allowed")
    if not re.fullmatch(form, text):
        raise BadField(path, f"{shown(text)}; it must be {reason}")
    return text


def _pattern(text: str, path: Path, form: str, reason: str) -> Pattern:
    _of(text, path, form, f"{reason}, {WILDCARD}")
    if text == "*":
        return Pattern(how=Match.PRESENT)
    if text.startswith("*"):
        return Pattern(how=Match.SUFFIX, text=text[1:])
    return Pattern(how=Match.PREFIX, text=text[:-1]) if text.endswith("*") else Pattern(how=Match.EXACT, text=text)


def _principal(text: str, path: Path) -> Pattern:
    return _pattern(text, path, PRINCIPAL, "TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT, without spiffe://")


def _namespace(text: str, path: Path) -> Pattern:
    return _pattern(text, path, NAMESPACE, "the name of a Namespace")


def _host(text: str, path: Path) -> Pattern:
    _of(text, path, HOST, f"a host without port, for which there is `ports`, {WILDCARD}")
    return _pattern(re.sub(r"(?<=[^.*])\.$", "", text.lower()), path, HOST, "a host")


def _method(text: str, path: Path) -> Pattern:
    return _pattern(text, path, METHOD, "a method as it is sent, in capitals")


def _port(text: str, path: Path) -> int:
    return int(_of(text, path, PORT, "a number from 1 to 65535"))


def _path(text: str, path: Path) -> Pattern:
    wanted = "a path without query as it is compared: no // and dot segments, %XX of what needs it and of nothing else"
    pattern = _pattern(text, path, PATH, wanted)
    return Pattern(how=pattern.how, text=re.sub("%..", lambda escape: escape[0].upper(), pattern.text))


def _block(text: str, path: Path) -> str:
    try:
        block = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadField(path, f"{shown(text)} is no IP address and no block of them like 10.0.0.0/8") from None
    if isinstance(block, ipaddress.IPv6Network) and block.network_address.ipv4_mapped is not None:
        raise BadField(path, f"{shown(text)}; IPv4 is written as IPv4")
    return str(block)
