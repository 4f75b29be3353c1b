"""Checks and how they are printed: the shape of `linkerd check`, which people and scripts know.

A section per category, its name underlined with dashes; a line per check; under what failed its reason and where to
read more; one last line for all. JSON has Linkerd's field names too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby

import msgspec
from typer import style


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


def _sign(result: Result, colour: bool) -> str:
    return style(_SIGN[result], fg=_COLOUR[result], bold=True) if colour else _SIGN[result]


def _block(check: Check, colour: bool) -> Iterator[str]:
    yield f"{_sign(check.result, colour)} {check.description}"
    if check.result is not Result.SUCCESS:
        yield from (f"    {text}" for text in (check.error, check.hint) if text)


def lines(checks: Iterable[Check], colour: bool = False) -> Generator[str, None, bool]:
    """Each line as soon as its check is known; returns whether all is well."""
    last, bad = None, False
    for check in checks:
        if check.category != last:
            yield from ("",) if last is not None else ()
            yield from (check.category, "-" * len(check.category))
        last, bad = check.category, bad or check.result is Result.ERROR
        yield from _block(check, colour)
    yield ""
    yield f"Status check results are {_sign(Result.ERROR if bad else Result.SUCCESS, colour)}"
    return not bad


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
