from __future__ import annotations

import io
import json
import logging
import re

from mesh.observe.logs import Sparingly, to_stream


def logged(*calls: tuple[int, str, dict[str, object]], level: str = "INFO") -> list[dict[str, object]]:
    stream = io.StringIO()
    with to_stream(level, stream):
        for severity, message, extra in calls:
            logging.getLogger("seine.agent").log(severity, message, extra=extra)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_object_with_the_fields_people_grep_for() -> None:
    (line,) = logged((logging.WARNING, "pod is leaking\nbadly", {"pod": "web-1", "ns": "shop"}))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("ts")))
    assert line == {
        "level": "warning",
        "msg": "pod is leaking\nbadly",
        "component": "agent",
        "pod": "web-1",
        "ns": "shop",
    }


def test_levels() -> None:
    assert logged((logging.DEBUG, "quiet", {}), (logging.INFO, "loud", {})) != []
    assert [line["msg"] for line in logged((logging.DEBUG, "now", {}), level="debug")] == ["now"]


def test_an_exception_is_told_in_the_same_line() -> None:
    stream = io.StringIO()
    with to_stream(stream=stream):
        try:
            raise ValueError("no such slot")
        except ValueError:
            logging.getLogger("seine.agent").exception("failed")
    line = json.loads(stream.getvalue())
    assert line["error"].endswith("ValueError: no such slot")


def test_a_huge_message_is_cut() -> None:
    (line,) = logged((logging.INFO, "x" * 100_000, {}))
    assert len(str(line["msg"])) == 8192


def test_sparingly_says_each_thing_once_per_second_and_how_often_it_did_not() -> None:
    now = 10.0
    sparingly = Sparingly(clock=lambda: now)
    assert [sparingly("bad head"), sparingly("bad head"), sparingly("bad head"), sparingly("other")] == [
        0,
        None,
        None,
        0,
    ]
    now = 11.0
    assert [sparingly("bad head"), sparingly("bad head")] == [2, None]


def test_sparingly_forgets_rather_than_grows() -> None:
    sparingly = Sparingly(clock=lambda: 0.0)
    assert all(sparingly(key) == 0 for key in range(10_000))
    assert len(vars(sparingly)["_said"]) <= Sparingly.KEYS_MAX


def test_on_a_terminal_lines_are_for_people() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with to_stream(stream=stream):
        logging.getLogger("seine.agent").warning("pod %s is leaking", "web-1")
    assert re.fullmatch(r"\d\d:\d\d:\d\d W seine\.agent  pod web-1 is leaking\n", stream.getvalue())
