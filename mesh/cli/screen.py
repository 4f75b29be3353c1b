"""The tables of `status`, `top` and the demo, made from values: one status document, or two for rates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mesh.cli.fitted import Fitted
from mesh.model import PodState
from mesh.node.routing import Standing
from mesh.observe.rates import ServiceRates, Share, rates
from mesh.observe.shortcut import total
from mesh.observe.status import NodesDocument, PodStatus, RoutingStatus, StatusDocument, WorkerStatus

_STATE_STYLE = {
    PodState.CAPTURED: "green",
    PodState.BYPASSING: "yellow",
    PodState.OPEN: "yellow",
    PodState.CLOSED: "red",
    PodState.LEAKING: "bold red",
    PodState.REFUSED: "red",
    PodState.PENDING: "cyan",
}
_STANDING_STYLE = {
    Standing.ROUTED: "green",
    Standing.OTHERS: "cyan",
    Standing.CONFLICT: "yellow",
    Standing.UNREACHABLE: "bold red",
    Standing.FAILED: "bold red",
}
_SHARES_SHOWN_MAX = 4
_WRAPPED = ("DETAIL", "ENDPOINTS")
NO_PODS = "no pods: none of the source's is on this node"
SPARE_OF_PODS = ("IDENTITY", "FAIL MODE", "MTLS")  # on a narrow terminal
SPARE_OF_SERVICES = ("CONNECTIONS", "FAILED", "REQUESTS", "P95", "OPEN", "NAMESPACE")


def _number(value: float | None, form: str = ",.1f") -> str:
    return "-" if value is None else format(value, form)


def duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def table_of(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column not in _WRAPPED)
    return table


def row(table: Table, *cells: str | Text) -> None:
    """Plain strings are taken as they are: names and reasons may contain rich's markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def many(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def head(document: StatusDocument) -> Text:
    version = f"seine {document.version}" if document.version else "seine"
    text = Text(f"{version} on node {document.node}: agent {document.pid} up {duration(document.uptime_seconds)}")
    if document.kernel:
        text.append(f", kernel {document.kernel}")
    if document.adopted:
        text.append(", hooks of a former agent adopted")
    return text


def capture_line(document: StatusDocument) -> Text:
    """What is captured and how, in a sentence."""
    captured = sum(pod.captured for pod in document.pods)
    bypassing = sum(pod.bypassing for pod in document.pods)
    inside = sum(pod.state in (PodState.CAPTURED, PodState.BYPASSING) for pod in document.pods)
    workers = sum(worker.up for worker in document.workers)
    return Text(
        f"{inside} of {len(document.pods)} pods captured by eBPF (connect and sk_lookup hooks): "
        f"{many(captured, 'connection')} carried by {many(workers, 'worker')}, {bypassing:,} bypassing; "
        "no sidecar, no iptables",
        style="dim",
    )


def shortcut_lines(document: StatusDocument) -> list[Text]:
    """One line, if any pod asks for the kernel short-cut."""
    asking = sum(pod.shortcut for pod in document.pods)
    if not asking:
        return []
    if not document.shortcut.available:
        why = document.shortcut.detail or "no reason given"
        return [Text(f"short-cut asked for by {many(asking, 'pod')}, but off: {why}", style="yellow")]
    used = total(document.pods)
    reasons = ", ".join(f"{why} {count:,}" for why, count in used.fallbacks.items() if count)
    fallen = f"; fallen back to TCP: {reasons}" if reasons else ""
    sent = f"{many(used.messages, 'message')}, {used.bytes:,} bytes past TCP"
    return [Text(f"short-cut for {many(asking, 'pod')}: {sent}{fallen}", style="dim")]


def peers_lines(document: StatusDocument) -> list[Text]:
    """One line, where several nodes make the mesh, and another for what is wrong with that."""
    peers, announced = document.peers, document.announced
    if not peers and not announced.path:
        return []
    theirs = many(sum(peer.workloads for peer in peers), "pod")
    told = f"{announced.workloads} of ours are told to the others" if announced.path else "the others are told nothing"
    text = f"trust domain {document.trust_domain}: {many(len(peers), 'other node')} with {theirs}, {told}"
    lines = [Text(text, style="dim")]
    if announced.problem:
        lines.append(Text(announced.problem, style="bold red"))
    return lines + [Text(peer.problem, style="bold red") for peer in peers if peer.problem]


def identity_lines(document: StatusDocument) -> list[Text]:
    """One line, if any pod ought to have an identity, and another for what is wrong with that."""
    found, now = document.identity, document.taken_at
    held = [each for each in found.certificates if each.serial]
    if not found.certificates:
        return []
    ends = f", the next one ends in {duration(min(each.not_after for each in held) - now)}" if held else ""
    roots = ", ".join(f"{root.id} ({root.state})" for root in found.roots) or "no root"
    text = f"{len(held)} of {many(len(found.certificates), 'certificate')} from {roots}{ends}"
    lines = [Text(text, style="dim" if len(held) == len(found.certificates) else "yellow")]
    if not found.signer.up:
        lines.append(Text("the signer is not up: new tunnels wait for it", style="bold red"))
    problems = {found.problem, *(each.problem for each in found.certificates)} - {""}
    return lines + [Text(problem, style="bold red") for problem in sorted(problems)]


def quic_lines(document: StatusDocument) -> list[Text]:
    """One line where somebody asks for QUIC, and another for each node that is reached by HBONE instead."""
    quic = document.quic
    if not (quic.wanted or quic.up or quic.problem):
        return []
    levels = quic.levels
    now = f"{many(levels.get('connections', 0), 'connection')}, {many(levels.get('streams', 0), 'stream')}"
    text = f"QUIC: {now}" if quic.up else "QUIC: its process is not up, all goes by HBONE"
    lines = [Text(text, style="dim" if quic.up else "yellow")]
    for way in quic.ways:
        if way.way != "quic":
            again = f", tried again in {duration(way.seconds)}" if way.seconds else ""
            lines.append(Text(f"{way.node} by HBONE: {way.reason}{again}", style="yellow"))
    return lines + ([Text(quic.problem, style="bold red")] if quic.problem else [])


def state(pod: PodStatus) -> Text:
    words = f"{pod.state} {pod.bypassing}" if pod.state is PodState.BYPASSING else str(pod.state)
    return Text(words, style=_STATE_STYLE.get(pod.state, ""))


def pods_table(pods: Sequence[PodStatus]) -> Table:
    numbers = ("CAPTURED", "BYPASSING")
    table = table_of("NAMESPACE", "POD", "STATE", "FAIL MODE", *numbers, "MTLS", "IDENTITY", "DETAIL", right=numbers)
    for pod in pods:
        counts = (f"{pod.captured:,}", f"{pod.bypassing:,}")
        identity = "/".join(pod.identity.split("/")[3:])  # without the trust domain, which is one for all
        modes = (str(pod.mtls), identity or "-")
        row(table, pod.namespace, pod.name, state(pod), str(pod.fail_mode), *counts, *modes, pod.detail)
    return table


def shares(found: Sequence[Share]) -> str:
    """The busiest first: web-1 70%, web-2 30%."""
    ordered = sorted(found, key=lambda share: (-share.fraction, share.pod))
    shown = [f"{share.pod} {share.fraction:.0%}" for share in ordered[:_SHARES_SHOWN_MAX]]
    rest = len(ordered) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def services_table(found: Sequence[ServiceRates]) -> Table:
    numbers = ("REQ/S", "SUCCESS", "P50", "P95", "P99", "OPEN", "REQUESTS", "FAILED", "CONNECTIONS")
    table = table_of("NAMESPACE", "SERVICE", *numbers, "ENDPOINTS", right=numbers)
    for service in found:
        quantiles = (
            f"{_number(q)} ms" if q is not None else "-" for q in (service.p50_ms, service.p95_ms, service.p99_ms)
        )
        row(
            table,
            service.namespace or "-",
            service.name or "(no service)",
            _number(service.requests_per_second),
            _number(service.success, ".2%"),
            *quantiles,
            f"{service.open:,}",
            f"{service.requests:,}",
            f"{service.failures:,}",
            f"{service.connections:,}",
            shares(service.shares),
        )
    return table


def workers_table(workers: Sequence[WorkerStatus]) -> Table:
    table = table_of("WORKER", "PID", "STATE", "HEARTBEAT", "RESTARTS", right=("PID", "HEARTBEAT", "RESTARTS"))
    for worker in workers:
        word = Text("up", style="green") if worker.up else Text("down", style="bold red")
        age = f"{worker.heartbeat_age_seconds:.1f} s ago" if worker.up else "-"
        row(table, str(worker.worker), str(worker.pid or "-"), word, age, str(worker.restarts))
    return table


def problems(document: StatusDocument) -> list[Text]:
    source, lines = document.source, []
    if source.errors:
        lines = [
            Text(f"{many(len(source.errors), 'object')} refused; what was good of them before stays:", style="bold red")
        ]
        lines += [Text(f"  {error}") for error in source.errors]
    lines += [Text(f"warning: {warning}", style="yellow") for warning in source.warnings]
    lines += routing_lines(document.routing)
    return lines + [Text(f"repaired: {sentence}", style="yellow") for sentence in document.repairs[-3:]]


def screen(now: StatusDocument, before: StatusDocument | None = None) -> RenderableType:
    """Everything, for `seine status`, `seine top` and the demo; rates are between the two documents."""
    parts: list[RenderableType] = [
        head(now),
        capture_line(now),
        *shortcut_lines(now),
        *peers_lines(now),
        *identity_lines(now),
        *quic_lines(now),
    ]
    rest = [Text(f"and {many(now.services_untold, 'more Service')} that nobody called")] if now.services_untold else []
    sections = [
        Fitted(pods_table(now.pods), SPARE_OF_PODS) if now.pods else Text(NO_PODS),
        Fitted(services_table(rates(now, before)), SPARE_OF_SERVICES) if now.services else Text("no services"),
        *rest,
        workers_table(now.workers) if now.workers else Text("no workers"),
    ]
    parts += chain.from_iterable((Text(""), section) for section in sections)
    if lines := problems(now):
        parts += [Text(""), *lines]
    return Group(*parts)


def nodes_screen(nodes: NodesDocument) -> RenderableType:
    """The other nodes' networks of pods, the tunnels to them, and their lists."""
    if not nodes.peers:
        return _networks(nodes)
    table = table_of("NODE", "TRANSPORT", "IN THE MESH", "LIST", "DETAIL", right=("IN THE MESH",))
    for each in nodes.peers:
        standing = Text("missing", style="bold red") if each.problem else Text("there", style="green")
        detoured = each.used is not each.transport
        by = Text(
            f"{each.used} (asks for {each.transport})" if detoured else each.used, style="yellow" if detoured else ""
        )
        detail = "; ".join(sentence for sentence in (each.problem, each.detour) if sentence)
        row(table, each.node, by, str(each.workloads), standing, detail)
    return Group(_networks(nodes), Text(""), table)


def _networks(routing: RoutingStatus) -> RenderableType:
    lines = [Text(f"node routing is {routing.mode or 'off'}")]
    if routing.repairs_total:
        lines.append(Text(f"{many(routing.repairs_total, 'route')} removed by somebody and put back", style="yellow"))
    if routing.problem:
        lines.append(Text(routing.problem, style="bold red"))
    if not routing.neighbours:
        return Group(*lines, Text("no routes: no Node of the source but this one has pods"))
    table = table_of("NODE", "PODS", "VIA", "DEVICE", "MTU", "STANDING", "DETAIL", right=("MTU",))
    for each in routing.neighbours:
        standing = Text(each.standing, style=_STANDING_STYLE[each.standing])
        size = str(each.mtu or "-")
        row(table, each.node, each.cidr, each.gateway or "-", each.interface or "-", size, standing, each.detail)
    return Group(*lines, Text(""), table)


def routing_lines(routing: RoutingStatus) -> list[Text]:
    """For `seine status`: only what needs somebody; the rest is in `seine nodes`."""
    missed = [each for each in routing.neighbours if not each.reached]
    lines = [Text(f"routes to other nodes: {routing.problem}", style="bold red")] if routing.problem else []
    if missed:
        first = f"pods of node {missed[0].node}, {missed[0].cidr}: {missed[0].detail}"
        more = f" (and {len(missed) - 1} more, see `seine nodes`)" if len(missed) > 1 else ""
        lines.append(Text(f"{first}{more}", style="bold red"))
    return lines
