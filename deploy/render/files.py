"""What is committed under deploy/ though it is made: path from the root of the tree -> text. Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from deploy.render.chart import templates
from mesh.install import VERSION, Values, objects
from mesh.install.objects import CRDS

ROOT = Path(__file__).resolve().parents[2]
CHART = "deploy/helm/seine"
MADE = "# Made by `./dev render` from mesh/install: change it there.\n"
CHART_YAML = {
    "apiVersion": "v2",
    "name": "seine",
    "description": "An eBPF service mesh without sidecars, iptables or changes to applications.",
    "type": "application",
    "kubeVersion": ">=1.30.0-0",  # pods' tokens say their node since
}
NOTES = """\
Seine runs on every Linux node of the cluster, and nobody is in the mesh yet. A namespace joins by its label:

    kubectl label namespace NAMESPACE seine.dev/mesh=enabled

    seine check --cluster     # is all well?
"""
TYPES = {str: "string", int: "integer", bool: "boolean"}


def files() -> dict[str, str]:
    chart = {
        "Chart.yaml": MADE + yaml.safe_dump({**CHART_YAML, "version": VERSION, "appVersion": VERSION}, sort_keys=False),
        "values.yaml": _values(),
        "values.schema.json": json.dumps(_schema(), indent=2) + "\n",
        "templates/NOTES.txt": NOTES,
        **{f"templates/{name}": text for name, text in templates().items()},
        **{f"crds/{path.name}": path.read_text() for path in sorted(CRDS.glob("*.yaml"))},
    }
    return {
        "deploy/base/seine.yaml": yaml.safe_dump_all(objects(Values()), sort_keys=False),
        **{f"{CHART}/{name}": text for name, text in chart.items()},
    }


def _values() -> str:
    lines = [MADE]
    for each in fields(Values):
        meta = each.metadata
        may = ", ".join(meta["among"]) or (f"{meta['low']} to {meta['high']}" if meta["high"] else "")
        why = f"# {meta['why']}{f' ({may})' if may else ''}"
        lines.append(f"{why}\n{each.name}: {json.dumps(each.default)}\n")
    return "\n".join(lines)


def _schema() -> dict[str, Any]:
    kinds = get_type_hints(Values)
    properties = {}
    for each in fields(Values):
        meta = each.metadata
        said: dict[str, Any] = {"type": TYPES[kinds[each.name]], "description": meta["why"]}
        if meta["among"]:
            said["enum"] = list(meta["among"])
        if meta["pattern"]:
            said["pattern"] = f"^{meta['pattern']}$"
        if meta["high"]:
            said |= {"minimum": meta["low"], "maximum": meta["high"]}
        properties[each.name] = said
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "properties": {**properties, "global": {"type": "object"}},  # which Helm adds when it is somebody's dependency
    }
