"""Committed results -> the README's section on speed: `python -m tests.bench.readme` rewrites it in place.

So that no number of the README is typed by hand: every one comes from a file of tests/bench/results.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.bench import bars
from tests.bench.quic import LOSS_PERCENT, RATE, ROUND_TRIP_MS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
BARS = {
    "http1": bars.HTTP1,
    "tcp": bars.TCP,
    "connect": bars.CONNECT,
    "memory": bars.MEMORY,
    "mtls": bars.MTLS,
    "mtls-bulk": bars.MTLS_BULK,
    "handshake": bars.HANDSHAKE,
    "quic": bars.QUIC,
    "scale": bars.SCALE,
}
PEERS = ("envoy", "haproxy", "nginx")
# bench -> columns: name in the results, heading, format, how many of its units make one of the heading's
FIGURES: dict[str, tuple[tuple[str, str, str, float], ...]] = {
    "http1": (
        ("rps", "requests/s", "{:,.0f}", 1),
        ("process_us", "CPU of the proxy, us per request", "{:.1f}", 1),
        ("p50_us", "p50 us, saturated", "{:,.0f}", 1),
        ("fixed_p50_us", "p50 us, fixed rate", "{:,.0f}", 1),
        ("fixed_p99_us", "p99 us, fixed rate", "{:,.0f}", 1),
    ),
    "quic": (
        *((f"loss{lost}_p50_us", f"p50 ms, {lost} % lost", "{:.0f}", 1e3) for lost in LOSS_PERCENT),
        *((f"loss{lost}_p99_us", f"p99 ms, {lost} %", "{:.0f}", 1e3) for lost in LOSS_PERCENT),
        ("loss3_process_us", "CPU of both ends, us per request, 3 %", "{:.0f}", 1),
    ),
}
NAMES = {
    "direct": "no proxy",
    "seine": "**Seine**",
    "seine_shortcut": "**Seine**, short-cut",
    "kernel": "no proxy, Seine's short-cut",
    "envoy": "Envoy behind REDIRECT",
    "haproxy": "HAProxy, explicit",
    "nginx": "nginx, explicit",
    "seine_pair": "**Seine**, HBONE",
    "seine_quic": "**Seine**, QUIC",
}


def figures(found: dict[str, Any]) -> list[str]:
    """One row per peer."""
    columns = FIGURES[found["bench"]]
    lines = ["| | " + " | ".join(heading for _, heading, *_ in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for peer in (name for name in NAMES if name in found["peers"]):
        sample = found["peers"][peer]
        cells = (form.format(sample[name] / unit) if name in sample else "-" for name, _, form, unit in columns)
        lines.append(f"| {NAMES.get(peer, peer)} | " + " | ".join(cells) + " |")
    return lines


def verdicts(documents: list[dict[str, Any]]) -> list[str]:
    """One row per bar of every bench."""
    lines = ["| what | bar | median | quartiles | | command |", "| --- | ---: | ---: | ---: | --- | --- |"]
    for found in documents:
        for bar in BARS[found["bench"]]:
            value, verdict = found["ratios"][bar.key], found["bars"][bar.key]
            if value is None:
                continue
            low, high = verdict["quartiles"]
            met = "met" if verdict["met"] else "**missed**"
            row = (bar.what, f"{bar.side} {bar.limit:g}", f"{value:.2f}", f"{low:.2f} - {high:.2f}", met)
            lines.append("| " + " | ".join(row) + f" | `./dev bench {found['bench']}` |")
    return lines


def facts(found: dict[str, Any]) -> str:
    machine = found["machine"]
    peers = ", ".join(f"{name} {_number(text)}" for name, text in sorted(machine["versions"].items()) if name in PEERS)
    rounds = len(found["rounds"]) if isinstance(found["rounds"], list) else found["rounds"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}, kernel {machine['kernel']}, {machine['date']}; {peers}; "
        f"two workers or threads each; medians of {rounds} interleaved rounds (`./dev bench http1`):"
    )


def distance(found: dict[str, Any]) -> str:
    machine = found["machine"]
    rounds = len(found["rounds"]) if isinstance(found["rounds"], list) else found["rounds"]
    return (
        f"{RATE:.0f} small requests/s to a node {ROUND_TRIP_MS:.0f} ms of round trip away, packets lost by chance; "
        f"TCP is the kernel's `{machine['tcp']}`; {machine['date']}, medians of {rounds} interleaved rounds "
        "(`./dev bench quic`):"
    )


def _number(text: str) -> str:
    """The version's own number in what a program says of itself."""
    match = re.search(r"\b\d+\.\d+\.\d+\b", text)
    return match[0] if match else text


def section(documents: list[dict[str, Any]]) -> str:
    http1 = next(found for found in documents if found["bench"] == "http1")
    lines = [facts(http1), "", *figures(http1), "", "And against what we set out to reach:", "", *verdicts(documents)]
    for quic in (found for found in documents if found["bench"] == "quic"):
        lines += ["", distance(quic), "", *figures(quic)]
    return "\n".join(lines)


def main() -> None:
    documents = [json.loads(path.read_text()) for name in BARS if (path := RESULTS / f"{name}.json").exists()]
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{section(documents)}\n{END}{after}")


if __name__ == "__main__":
    main()
