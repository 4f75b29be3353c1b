"""The last line of a run: exactly the keys of the tables of bars, also when something could not be measured."""

from __future__ import annotations

import json

from rich.console import Console

from tests.bench.http1 import Http1
from tests.bench.report import Result, show


def result(rounds: int) -> Result:
    values = {"rps": 10.0, "fixed_p50_us": 100.0, "process_us": 4.0, "busy_us": 20.0}
    faster = {**values, "rps": 30.0, "fixed_p50_us": 120.0, "process_us": 1.0}
    found = {"direct": {**values, "fixed_p50_us": 50.0}, "envoy": values, "seine": faster}
    return Result(Http1(quick=True), {"cores": 2}, [dict(found) for _ in range(rounds)])


def test_keys_are_those_of_the_bars() -> None:
    document = json.loads(json.dumps(result(3).document()))
    assert document["bench"] == "http1"
    assert document["ratios"] == {
        "cpu_vs_haproxy": None,
        "cpu_vs_envoy": 0.25,
        "rps_vs_envoy": 3.0,
        "shortcut_rps_vs_direct": None,
        "added_p50_vs_envoy": 1.4,
        "kernel_rps_vs_direct": None,
    }
    assert document["bars"]["rps_vs_envoy"] == {"side": ">=", "limit": 2.4, "quartiles": [3.0, 3.0], "met": True}
    assert document["bars"]["added_p50_vs_envoy"]["met"] is False
    assert document["bars"]["cpu_vs_haproxy"]["met"] is None
    assert document["machine"] == {"cores": 2}


def test_rounds_are_a_number_and_with_raw_themselves() -> None:
    assert result(2).document()["rounds"] == 2
    assert len(result(2).document(raw=True)["rounds"]) == 2


def test_a_run_without_a_figure_still_reports() -> None:
    empty = Result(Http1(quick=True), {}, [], ["envoy: it did not start"])
    assert set(empty.document()["ratios"].values()) == {None}
    console = Console(record=True, width=160)
    show(empty, console)
    assert "envoy: it did not start" in console.export_text()
