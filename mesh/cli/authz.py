"""`seine authz`: which policies are about a pod, and what they say of a call that somebody could make."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, emit, fail
from mesh.identity.authz import Facts, Request
from mesh.identity.explain import Explanation, explain
from mesh.model import Authorization, AuthzAction, FailMode, Mtls, Value, spiffe_id
from mesh.observe.status import PodAuthorization

NAME = "authz"


class Answer(Value, frozen=True):
    pod: PodAuthorization
    asked: Facts | None = None
    explanation: Explanation | None = None


def _callers(words: list[str], trust_domain: str) -> tuple[str, str]:
    """Identity and address; each may be missing."""
    identity = address = ""
    for word in words:
        namespace, slash, account = word.partition("/")
        try:
            address = str(ipaddress.ip_address(word))
        except ValueError:
            if not (namespace and slash and account) or "/" in account:
                fail(f"--from {word!r}: neither NAMESPACE/SERVICE-ACCOUNT nor an IP address", 2)
            identity = spiffe_id(trust_domain, namespace, account)
    return identity, address


def _request(method: str, path: str, host: str) -> Request | None:
    if not (method or path or host):
        return None
    path, _, _ = (path or "/").partition("?")
    if not path.startswith("/"):
        fail(f"--path {path!r}: a path begins with /", 2)
    return Request(method=method or "GET", host=host, path=path)


def _ask(node: str, namespace: str, pod: str) -> PodAuthorization:
    directory = client.run_dir(node)
    try:
        body = client.ask(directory, "/authz", query={"namespace": [namespace], "pod": [pod]})
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))
    return msgspec.json.decode(body, type=PodAuthorization)


def beside_policies(pod: PodAuthorization, asked: Facts) -> Explanation | None:
    """What is decided before any policy is asked."""
    if asked.port in pod.skip_inbound_ports:
        return Explanation(allowed=True, verdict=f"let through: port {asked.port} is not captured, so nobody is asked")
    if pod.mtls is Mtls.STRICT and not asked.identity:
        why = "it accepts mutual TLS only (seine.dev/mtls: strict), and nobody is proven without"
        return Explanation(allowed=False, verdict=f"refused: {why}")
    for each in (asked.identity, pod.identity) if asked.identity else ():
        if each in pod.denied:
            return Explanation(allowed=False, verdict=f"refused: {each} is denied (`seine identity` shows until when)")
    return None


# --- for people


def _default(authorization: Authorization) -> str:
    if any(each.action is AuthzAction.ALLOW and not each.dry_run for each in authorization.policies):
        return "whom no DENY matches may call it if an ALLOW matches"
    if authorization.default_deny:
        return "nobody may call it: there is no ALLOW, and its namespace denies by default"
    return "whom no DENY matches may call it: there is no ALLOW"


def _denies_the_proven(authorization: Authorization) -> bool:
    denying = (each for each in authorization.policies if each.action is AuthzAction.DENY)
    sources = (source for policy in denying for rule in policy.rules for source in rule.sources)
    return any(source.principals or source.namespaces for source in sources)


def _warnings(pod: PodAuthorization) -> Iterator[str]:
    if pod.authorization != Authorization() and pod.fail_mode is FailMode.OPEN:
        yield "while no worker lives nothing is enforced: its fail mode is open (seine.dev/fail)"
    if pod.mtls is not Mtls.STRICT and _denies_the_proven(pod.authorization):
        yield "it accepts plaintext, whose callers are nobody to a DENY by principal or namespace; strict pods do not"
    if pod.mtls is Mtls.DISABLED:
        yield "only callers on its own node are proven, others known by address: its mutual TLS is disabled"
    if pod.skip_inbound_ports:
        yield f"nothing is enforced on ports that are not captured: {', '.join(map(str, pod.skip_inbound_ports))}"


def _policy_lines(pod: PodAuthorization) -> Iterator[str]:
    yield f"{pod.namespace}/{pod.name} ({pod.identity})"
    for each in pod.authorization.policies:
        number = f"{len(each.rules)} rule" + ("" if len(each.rules) == 1 else "s")
        yield f"  {each.action:5} {each.namespace}/{each.name}, {number}{', dry run' if each.dry_run else ''}"
    yield f"  {_default(pod.authorization)}"


def _explanation_lines(found: Explanation) -> Iterator[str]:
    yield ""
    yield found.verdict
    yield from (f"  {note}" for note in found.notes)
    for each in found.policies:
        yield f"  {each.action} {each.policy}{' (dry run)' if each.dry_run else ''}"
        if not each.rules:
            yield "    has no rule"
        for number, reason in enumerate(each.rules):
            yield f"    rule {number} " + (f"does not match: {reason}" if reason else "matches")


def _text(answer: Answer) -> object:
    from rich.text import Text

    return Text("\n".join(lines(answer)))  # not markup: an IPv6 address stands in brackets


def lines(answer: Answer) -> Iterator[str]:
    yield from _policy_lines(answer.pod)
    yield from (f"  note: {warning}" for warning in _warnings(answer.pod))
    if answer.explanation:
        yield from _explanation_lines(answer.explanation)


def run(
    pod: Annotated[str, typer.Argument(help="POD or NAMESPACE/POD.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the pod.")] = "default",
    caller: Annotated[
        list[str] | None, typer.Option("--from", help="NAMESPACE/SERVICE-ACCOUNT or IP address; both may be given.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Of the pod, not of a Service.", min=0, max=65535)] = 0,
    method: Annotated[str, typer.Option("--method", help="Of an HTTP request; GET by default.")] = "",
    path: Annotated[str, typer.Option("--path", help="Of an HTTP request; / by default.")] = "",
    host: Annotated[str, typer.Option("--host", help="Of an HTTP request.")] = "",
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show who may call a pod, or with --from, --port and so on whether one call would be allowed, and why.

    What is not given is not known, and no condition holds for it. Without --method, --path and --host it is no HTTP.
    Exit status 1 when it would not be allowed.
    """
    if "/" in pod:
        namespace, _, pod = pod.partition("/")
    request = _request(method, path, host)
    answer = Answer(pod=_ask(node, namespace, pod))
    if caller or port or request:
        identity, address = _callers(caller or [], answer.pod.trust_domain)
        asked = Facts(identity=identity, address=address, port=port, request=request)
        explanation = beside_policies(answer.pod, asked) or explain(answer.pod.authorization, asked)
        answer = Answer(pod=answer.pod, asked=asked, explanation=explanation)
    emit(answer, output, lambda: _text(answer))
    if answer.explanation and not answer.explanation.allowed:
        raise typer.Exit(1)
