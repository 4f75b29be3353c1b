"""Checks and how they are printed: the shape of `linkerd check`, which people and scripts know.

A section per category, its name underlined with dashes; a line per check; under what failed its reason and where to
read more; one last line for all. JSON has Linkerd's field names too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby

import msgspec


class Result(StrEnum):
    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


_SIGN = {Result.SUCCESS: "√", Result.WARNING: "‼", Result.ERROR: "×"}  # noqa: RUF001  # as Linkerd prints them
_COLOUR = {Result.SUCCESS: "green", Result.WARNING: "yellow", Result.ERROR: "red"}


class Check(msgspec.Struct, frozen=True):
    category: str
    description: str
    result: Result = Result.SUCCESS
    error: str = ""
    hint: str = ""


def success(checks: Iterable[Check]) -> bool:
    """Warnings do not fail."""
    return all(check.result is not Result.ERROR for check in checks)


def lines(checks: Sequence[Check], colour: bool = False) -> Iterator[str]:
    def sign(result: Result) -> str:
        from click import style

        return style(_SIGN[result], fg=_COLOUR[result], bold=True) if colour else _SIGN[result]

    for category, members in groupby(checks, key=lambda check: check.category):
        yield category
        yield "-" * len(category)
        for check in members:
            yield f"{sign(check.result)} {check.description}"
            if check.result is not Result.SUCCESS:
                yield from (f"    {text}" for text in (check.error, check.hint) if text)
        yield ""
    yield f"Status check results are {sign(Result.SUCCESS if success(checks) else Result.ERROR)}"


def machine(checks: Sequence[Check]) -> dict[str, object]:
    """Linkerd's JSON: success, categories, checks with description, result and, of what failed, error and hint."""
    categories = []
    for name, members in groupby(checks, key=lambda check: check.category):
        found = []
        for check in members:
            each = {"description": check.description, "result": str(check.result)}
            if check.result is not Result.SUCCESS:
                each |= {key: text for key, text in (("error", check.error), ("hint", check.hint)) if text}
            found.append(each)
        categories.append({"categoryName": name, "checks": found})
    return {"success": success(checks), "categories": categories}
