"""`seine install` and `seine uninstall`: the objects of an installation as YAML, for kubectl."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli.kubectl import HOME, NamespaceOption
from mesh.cli.output import fail

SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="May be repeated.")]


def install(
    given: SetOption = None,
    namespace: NamespaceOption = HOME,
    values: Annotated[bool, typer.Option("--values", help="List what may be set, with defaults and reasons.")] = False,
) -> None:
    """Print everything that Seine is in a cluster: `seine install | kubectl apply --server-side -f -`."""
    if values:
        _list_values()
        return
    from mesh.install import crds

    print_yaml([*crds(), *_objects(given, namespace)])


def uninstall(given: SetOption = None, namespace: NamespaceOption = HOME) -> None:
    """Print what `seine install` brought, but for the CRDs: `seine uninstall | kubectl delete -f -`.

    Each agent takes Seine off its node as it goes. The namespace comes first: its deletion is what tells them so.
    """
    home, *rest = _objects(given, namespace)
    print_yaml([home, *reversed(rest)])


def _objects(given: list[str] | None, namespace: str) -> list[dict[str, object]]:
    from mesh.install import BadValue, chosen, objects

    try:
        return objects(chosen(given or (), namespace=namespace))
    except BadValue as error:
        fail(str(error), 2)


def print_yaml(made: list[dict[str, object]]) -> None:
    import yaml

    typer.echo(yaml.safe_dump_all(made, sort_keys=False), nl=False)


def _list_values() -> None:
    from dataclasses import fields

    from rich.table import Table

    from mesh.cli.output import Output, emit
    from mesh.install import Values

    table = Table("NAME", "DEFAULT", "WHY", box=None, pad_edge=False, header_style="bold")
    for each in fields(Values):
        table.add_row(each.name, str(each.default), each.metadata["why"])
    emit(None, Output.TABLE, lambda: table)
