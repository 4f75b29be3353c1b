"""A run's rounds -> medians, verdicts, the table for people and the one line for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.bench import Column, Kind, Round
from tests.bench.stats import Spread, spread


@dataclass
class Result:
    """Everything a run found. `failures`: sentences; a run with one is not a result to show around."""

    bench: Kind
    machine: dict[str, object]
    rounds: list[Round] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def peers(self) -> list[str]:
        return list(dict.fromkeys(name for found in self.rounds for name in found))

    def of(self, peer: str, name: str) -> Spread | None:
        return spread(found[peer][name] for found in self.rounds if name in found.get(peer, {}))

    def ratio(self, key: str) -> Spread | None:
        return spread(each[key] for found in self.rounds if key in (each := self.bench.ratios(found)))

    def document(self, raw: bool = False) -> dict[str, Any]:
        """The last line; `raw` adds every round."""
        ratios = {bar.key: self.ratio(bar.key) for bar in self.bench.bars}
        names = {name for found in self.rounds for sample in found.values() for name in sample}
        return {
            "bench": self.bench.name,
            "ratios": {key: round(found.median, 4) if found else None for key, found in ratios.items()},
            "bars": {
                bar.key: {
                    "side": bar.side.value,
                    "limit": bar.limit,
                    "quartiles": [round(found.low, 4), round(found.high, 4)] if (found := ratios[bar.key]) else None,
                    "met": bar.met(found),
                }
                for bar in self.bench.bars
            },
            "peers": {
                peer: {name: round(found.median, 3) for name in sorted(names) if (found := self.of(peer, name))}
                for peer in self.peers()
            },
            "rounds": self.rounds if raw else len(self.rounds),
            "quick": self.bench.quick,
            "failures": self.failures,
            "machine": self.machine,
        }


def _cell(found: Spread | None, column: Column) -> str:
    if found is None:
        return "-"
    median, low, high = (f"{value / column.unit:,.{column.digits}f}" for value in (found.median, found.low, found.high))
    return f"{median}\n[dim]{low} - {high}[/dim]"


def show(result: Result, console: Console) -> None:
    """Medians with quartiles per peer, then each bar and whether it is met."""
    title = f"{result.bench.name}: median and quartiles of {len(result.rounds)} rounds"
    table = Table(title=title, title_justify="left")
    table.add_column("peer")
    for column in result.bench.columns:
        table.add_column(column.heading, justify="right")
    for peer in result.peers():
        table.add_row(peer, *(_cell(result.of(peer, column.name), column) for column in result.bench.columns))
    console.print(table)
    console.print(_bars(result))
    for sentence in result.failures:
        console.print(f"[red]failed[/red]: {sentence}")


def _bars(result: Result) -> Table:
    table = Table(title="bars", title_justify="left")
    for heading in ("key", "what", "bar", "found", "quartiles", ""):
        table.add_column(heading)
    words = {None: "not measured", True: "[green]met[/green]", False: "[red]missed[/red]"}
    for bar in result.bench.bars:
        found = result.ratio(bar.key)
        numbers = (f"{found.median:.3g}", f"{found.low:.3g}-{found.high:.3g}") if found else ("-", "-")
        table.add_row(bar.key, bar.what, f"{bar.side} {bar.limit:g}", *numbers, words[bar.met(found)])
    return table
