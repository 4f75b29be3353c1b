from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mesh.cli.fitted import Fitted, width


def table() -> Table:
    made = Table(box=None, pad_edge=False)
    made.add_column("NAME", no_wrap=True)
    made.add_column("NUMBER", no_wrap=True, justify="right")
    made.add_column("OTHER", no_wrap=True)
    made.add_column("DETAIL", no_wrap=False)
    made.add_row(Text("web"), Text("1,234.5"), Text("abcdefghij"), Text("a sentence of some words that may be wrapped"))
    return made


def printed(columns: int) -> list[str]:
    console = Console(width=columns, color_system=None)
    with console.capture() as capture:
        console.print(Fitted(table(), ("OTHER", "NUMBER")))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_what_fits_is_shown_whole() -> None:
    assert width(table()) == 4 + 7 + 10 + 16 + 3 * 2
    assert printed(100)[0].split() == ["NAME", "NUMBER", "OTHER", "DETAIL"]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (43, "NAME NUMBER OTHER DETAIL"),
        (42, "NAME NUMBER DETAIL"),
        (31, "NAME NUMBER DETAIL"),
        (30, "NAME DETAIL"),
        (22, "NAME DETAIL"),
    ],
)
def test_the_least_wanted_go_first(columns: int, shown: str) -> None:
    assert printed(columns)[0].split() == shown.split()


def test_no_number_is_cut() -> None:
    for columns in range(31, 60):
        assert any("1,234.5" in line for line in printed(columns)), columns
        assert not any("…" in line for line in printed(columns)), columns
