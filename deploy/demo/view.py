"""The demo's screen, from values: fits 80 columns, breathes at 100.

Sums are since the traffic began; rates, success, times and shares are of the last few seconds, or of the whole run
where there is no `recent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from deploy.demo.shop import SECONDS_OF_WORK
from deploy.demo.verdict import Facts
from mesh.cli.screen import state
from mesh.observe.rates import ServiceRates, Share
from mesh.observe.status import WorkerStatus

ROOMY_COLUMNS = 100
BAR, BARE = "━", "╌"
HINT = ".venv/bin/seine status --node demo"


@dataclass(frozen=True)
class Picture:
    facts: Facts
    seconds: float
    workers: Sequence[WorkerStatus]
    recent: Mapping[str, ServiceRates] | None = None
    window: float = 0.0
    live: bool = False
    trouble: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(*self._parts(options.max_width >= ROOMY_COLUMNS))

    def _parts(self, roomy: bool) -> list[RenderableType]:
        parts: list[RenderableType] = [self._title(), Text(""), self._table(roomy)]
        if self.recent:
            caption = f"rates, success, times and shares of the last {self.window:.0f} s; sums since the start"
            parts.append(Text(caption, style="dim"))
        parts.append(Text(""))
        parts += [_item("captured", _captured(self.facts)), _item("balanced", _balanced(self.facts))]
        parts += [_item("witnesses", _witnesses(self.facts)), _item("pods", self._pods())]
        if self.trouble:
            parts.append(_item("trouble", Text(self.trouble, style="bold red")))
        if self.live:
            parts.append(_item("look inside", Text(f"{HINT}  (in another terminal)", style="cyan")))
        return parts

    def _title(self) -> Text:
        text = Text.assemble(("Seine", "bold"), " at work on this machine, ", (f"{self.seconds:.0f} s", "bold"))
        if self.live:
            text.append("   Ctrl-C ends it and removes everything", style="dim")
        return text

    def _table(self, roomy: bool) -> Table:
        numbers = ("REQUESTS", "REQ/S", "SUCCESS", "P50", "P95", "P99", "CONNS", "OPEN")
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2 if roomy else 1, 0, 0))
        for name in ("SERVICE", *numbers, "SHARE"):
            table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
        for name, total in sorted(self.facts.table.items(), key=lambda item: -item[1].requests):
            recent = (self.recent or self.facts.table).get(name, total)
            table.add_row(*_service(name, total, recent))
            for share in total.shares:
                now = next((s for s in recent.shares if s.pod == share.pod), share)
                seconds = (self.window if self.recent else self.seconds) or 1.0
                table.add_row(*_endpoint(share, now, seconds, 14 if roomy else 6))
        return table

    def _pods(self) -> Text:
        words: list[Any] = []
        for pod in self.facts.pods:
            words += [f"{pod.name} ", state(pod), ", "]
        up = sum(worker.up for worker in self.workers)
        return Text.assemble(*words, f"{up} of {len(self.workers)} workers up")


def _service(name: str, total: ServiceRates, recent: ServiceRates) -> list[Text]:
    quantiles = (recent.p50_ms, recent.p95_ms, recent.p99_ms)
    success = _percent(recent.success)
    return [
        Text(name, style="bold"),
        _count(total.requests),
        Text("-" if not recent.requests else f"{recent.requests_per_second or 0:,.1f}"),
        Text(success, style="" if success == "-" else "green" if recent.success == 1.0 else "bold red"),
        *(Text("-" if q is None else f"{q:.1f} ms", style="" if q is not None else "dim") for q in quantiles),
        _count(total.connections),
        _count(total.open),
        Text(""),
    ]


def _endpoint(total: Share, recent: Share, seconds: float, width: int) -> list[Text]:
    filled = round(recent.fraction * width)
    bar = Text.assemble((BAR * filled, "cyan"), (BARE * (width - filled), "dim"), f" {recent.fraction:.0%}")
    rate = Text(f"{recent.requests / seconds:,.1f}" if recent.requests else "")
    connections = Text(f"{total.connections:,}" if total.connections else "")
    requests = Text(f"{total.requests:,}" if total.requests else "")
    return [Text(f" {total.pod}"), requests, rate, *(Text("") for _ in range(4)), connections, Text(""), bar]


def _count(number: int) -> Text:
    return Text(f"{number:,}" if number else "-", style="" if number else "dim")


def _percent(value: float | None) -> str:
    """Never 100 % when something failed."""
    if value is None:
        return "-"
    return "100%" if value == 1.0 else f"{min(value, 0.9999):.2%}"


def _item(name: str, text: Text) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=11, style="bold")
    table.add_column(overflow="fold")
    table.add_row(name, text)
    return table


def _captured(facts: Facts) -> Text:
    return Text.assemble(
        (f"{facts.by_connect:,}", "bold"),
        " connections by the connect hook in client, ",
        (f"{facts.by_lookup:,}", "bold"),
        " by sk_lookup in the web pods (the node's health checks); no iptables, no sidecar",
    )


def _balanced(facts: Facts) -> Text:
    what = "each request" if facts.table["web"].requests else "each connection, for no request was recognised"
    work = " and ".join(f"web-{speed} works {seconds * 1000:.0f} ms" for speed, seconds in SECONDS_OF_WORK.items())
    return Text(f"{what}, by two choices on peak EWMA ({work} on one)")


def _witnesses(facts: Facts) -> Text:
    web, db = facts.tally["web"], facts.tally["db"]
    bad = web["asked"] - web["good"] + db["asked"] - db["good"]
    logged = sum(sum(seen.values()) for seen in facts.nginx.values())
    text = Text.assemble(f"the client got {web['good']:,} pages and {db['good']:,} query results, ")
    text.append(f"{bad:,} failed", style="bold red" if bad else "green")
    text.append(f"; nginx logged {logged:,} requests, PostgreSQL {sum(facts.connections.values()):,} connections")
    return text
