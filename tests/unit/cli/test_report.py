"""The shape is linkerd check's, letter by letter: pkg/healthcheck/healthcheck_output.go."""

from __future__ import annotations

from mesh.cli.report import Check, Result, lines, machine, success

GOOD = Check("seine-node", "cgroup2 is mounted")
WARNING = Check("seine-pods", "shop/web-1 is captured", Result.WARNING, "bypassing 3", "drain it")
BAD = Check("seine-pods", "shop/web-2 is captured", Result.ERROR, "leaking")


def test_all_well() -> None:
    assert list(lines([GOOD, GOOD])) == [
        "seine-node",
        "----------",
        "√ cgroup2 is mounted",
        "√ cgroup2 is mounted",
        "",
        "Status check results are √",
    ]


def test_warnings_and_failures_say_why_and_what_to_do() -> None:
    assert list(lines([GOOD, WARNING, BAD])) == [
        "seine-node",
        "----------",
        "√ cgroup2 is mounted",
        "",
        "seine-pods",
        "----------",
        "‼ shop/web-1 is captured",
        "    bypassing 3",
        "    drain it",
        "× shop/web-2 is captured",  # noqa: RUF001
        "    leaking",
        "",
        "Status check results are ×",  # noqa: RUF001
    ]


def test_a_warning_is_no_failure() -> None:
    assert success([GOOD, WARNING])
    assert not success([GOOD, BAD])
    assert list(lines([WARNING]))[-1] == "Status check results are √"


def test_colour_only_where_asked() -> None:
    assert "\x1b[" not in "".join(lines([GOOD, WARNING, BAD]))
    assert "\x1b[32m" in "".join(lines([GOOD], colour=True))


def test_json_has_linkerds_names() -> None:
    assert machine([GOOD, WARNING, BAD]) == {
        "success": False,
        "categories": [
            {"categoryName": "seine-node", "checks": [{"description": "cgroup2 is mounted", "result": "success"}]},
            {
                "categoryName": "seine-pods",
                "checks": [
                    {
                        "description": "shop/web-1 is captured",
                        "result": "warning",
                        "error": "bypassing 3",
                        "hint": "drain it",
                    },
                    {"description": "shop/web-2 is captured", "result": "error", "error": "leaking"},
                ],
            },
        ],
    }
