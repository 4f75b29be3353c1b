"""`seine enroll` and `seine unenroll`: a namespace's label as YAML, for kubectl."""

from __future__ import annotations

from typing import Annotated

import typer

NamespaceArgument = Annotated[str, typer.Argument(help="Whose pods, those that run already and those to come.")]


def enroll(namespace: NamespaceArgument) -> None:
    """Print what takes a namespace into the mesh: `seine enroll NS | kubectl apply --server-side -f -`."""
    _print(namespace, "enabled")


def unenroll(namespace: NamespaceArgument) -> None:
    """Print what takes it out again; nothing is restarted: `seine unenroll NS | kubectl apply --server-side -f -`."""
    _print(namespace, "disabled")


def _print(namespace: str, word: str) -> None:
    import yaml

    from mesh.kube.settings import MESH

    metadata = {"name": namespace, "labels": {MESH: word}}
    typer.echo(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, sort_keys=False), nl=False
    )
