"""How a command says what it found: for people, or for machines with -o."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

_WIDTH_OF_A_FILE = 1000  # columns; what is piped into grep must not be cut


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
NodeOption = Annotated[str, typer.Option("--node", help="Name the agent was given; this host's own by default.")]


def encode(value: object, output: Output) -> str:
    """JSON or YAML of any value msgspec knows, with a line's end."""
    import msgspec

    if output is Output.YAML:
        return msgspec.yaml.encode(value, enc_hook=str).decode()
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode() + "\n"


def emit(value: object, output: Output, table: Callable[[], object]) -> None:
    """`table` makes something that rich can print; it is not called for the machines' formats."""
    if output is not Output.TABLE:
        sys.stdout.write(encode(value, output))
        return
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    Console(highlight=False, width=width).print(table())


def said(error: Exception) -> str:
    """An error as a sentence: what the system says comes without its number, and with what it was about."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    place = f"{error.filename}: " if error.filename else ""
    denied = error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0
    return f"{place}{error.strerror}{'; run it as root' if denied else ''}"


def fail(sentence: str, code: int = 1) -> NoReturn:
    """Says why on standard error and ends the command."""
    typer.echo(f"seine: {sentence}", err=True)
    raise typer.Exit(code)
