"""Committed results -> the README's section on speed: `python -m tests.bench.readme` rewrites it in place.

So that no number of the README is typed by hand: every one comes from a file of tests/bench/results.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.bench import bars

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
# bench -> columns: name in the results, heading, format
FIGURES = {
    "http1": (
        ("rps", "requests/s", "{:,.0f}"),
        ("process_us", "CPU of the proxy, us per request", "{:.1f}"),
        ("p50_us", "p50 us, saturated", "{:,.0f}"),
        ("fixed_p50_us", "p50 us, fixed rate", "{:,.0f}"),
        ("fixed_p99_us", "p99 us, fixed rate", "{:,.0f}"),
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
}


def figures(found: dict[str, Any]) -> list[str]:
    """One row per peer."""
    columns = FIGURES[found["bench"]]
    lines = ["| | " + " | ".join(heading for _, heading, _ in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for peer in (name for name in NAMES if name in found["peers"]):
        sample = found["peers"][peer]
        cells = (form.format(sample[name]) if name in sample else "-" for name, _, form in columns)
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


def _number(text: str) -> str:
    """The version's own number in what a program says of itself."""
    match = re.search(r"\b\d+\.\d+\.\d+\b", text)
    return match[0] if match else text


def section(documents: list[dict[str, Any]]) -> str:
    http1 = next(found for found in documents if found["bench"] == "http1")
    return "\n".join(
        [facts(http1), "", *figures(http1), "", "And against what we set out to reach:", "", *verdicts(documents)]
    )


def main() -> None:
    documents = [json.loads(path.read_text()) for name in BARS if (path := RESULTS / f"{name}.json").exists()]
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{section(documents)}\n{END}{after}")


if __name__ == "__main__":
    main()
