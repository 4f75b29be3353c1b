"""A table on a terminal that is too narrow for it: whole columns are left out rather than numbers cut in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

WRAPPED_MIN = 16  # columns left to text that may be wrapped
PADDING = 2  # between two columns


class Fitted:
    def __init__(self, table: Table, spare: Sequence[str]) -> None:
        """`spare`: headings that may be missed, the first one first."""
        self._table, self._spare = table, spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = copy(self._table)
        for name in ("", *self._spare):
            kept = [column for column in table.columns if column.header != name]
            table.columns = [replace(column, _index=index) for index, column in enumerate(kept)]
            if width(table) <= options.max_width:
                break
        yield table


def width(table: Table) -> int:
    """What it needs so that nothing is cut. All cells and headings are plain."""
    needed = 0
    for column in table.columns:
        cells = (cell if isinstance(cell, Text) else Text(str(cell)) for cell in (column.header, *column.cells))
        widest = max(cell.cell_len for cell in cells)
        needed += widest if column.no_wrap else min(widest, WRAPPED_MIN)
    return needed + PADDING * (len(table.columns) - 1)
