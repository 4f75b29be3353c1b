"""`seine identity`: certificates and roots of this node; rotates the root, denies and allows."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, emit, encode, fail
from mesh.observe.status import DenialStatus, IdentityStatus, Rotation

NAME = "identity"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

T = TypeVar("T")

app = typer.Typer(invoke_without_command=True, no_args_is_help=False)


def _ask(node: str, path: str, kind: type[T], method: str = "GET", query: Mapping[str, list[str]] | None = None) -> T:
    directory = client.run_dir(node)
    try:
        return msgspec.json.decode(client.ask(directory, path, method, query), type=kind)
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise typer.BadParameter("a number and s, m, h or d, as 24h")
    return float(found[1]) * _UNITS[found[2]]


@app.callback()
def show(context: typer.Context, node: NodeOption = "", output: OutputOption = Output.TABLE) -> None:
    """Show this node's identities with serial number, end and root of their certificates, the roots, and who is denied.

    With -o json also the certificates themselves, as PEM.
    """
    if context.invoked_subcommand is not None:
        return
    from mesh.cli.identity_screen import screen

    found = _ask(node, "/identity", IdentityStatus)
    emit(found, output, lambda: screen(found, time.time()))


@app.command()
def rotate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would happen, and whom it would wait for.")
    ] = False,
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Replace the root by a new one, in steps that wait for every node that they could cut off.

    The new root is believed at once, issues when all believe it, and the old one goes when nobody has a certificate
    from it. With --dry-run while that is under way: what it waits for.
    """
    from mesh.cli.identity_screen import rotation

    found = _ask(node, "/identity/rotate", Rotation, "GET" if dry_run else "POST")
    emit(found, output, lambda: rotation(found, time.time()))


@app.command()
def deny(
    what: Annotated[str, typer.Argument(metavar="ID|SERIAL", help="A SPIFFE id, or a serial number in hexadecimal.")],
    duration: Annotated[str, typer.Option("--for", help="How long: 30m, 24h, 7d.")] = "24h",
    reason: Annotated[str, typer.Option("--reason", help="For those who ask later.")] = "",
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Deny an identity, or one certificate, although a root vouches for it. Its connections end, new ones are refused.

    Those are tunnels between nodes and, of an identity, connections between two pods of a node, to it and from it. A
    denied identity gets no certificate either, so 24 hours, the life of one, are enough to keep it out for good once
    its pods are gone. A denied certificate is replaced at once, with a new key.
    """
    query = {"what": [what], "seconds": [str(_seconds(duration))], "reason": [reason]}
    found = _ask(node, "/identity/deny", DenialStatus, "POST", query)
    if output is not Output.TABLE:
        typer.echo(encode(found, output), nl=False)
        return
    is_identity = found.what.startswith("spiffe:")
    ends = "its connections end, between nodes and within one" if is_identity else "its tunnels end"
    typer.echo(f"{found.what} is denied for {duration}; {ends}")


@app.command()
def allow(
    what: Annotated[str, typer.Argument(metavar="ID|SERIAL", help="As it was denied.")],
    node: NodeOption = "",
) -> None:
    """Take a denial back. Exit status 1 when there was none."""
    if not _ask(node, "/identity/allow", dict[str, bool], "POST", {"what": [what]})["was_denied"]:
        fail(f"{what} was not denied")
    typer.echo(f"{what} is allowed again")
