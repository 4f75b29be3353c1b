"""From one version to the next: what an installation says of itself, and how far apart two may be. Pure.

A new agent adopts the workers and pins of the one before: this is tried for neighbours, and promised for them alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mesh.install.values import VERSION, Values, chosen

RECORD = "seine"  # the ConfigMap that says with which values we were installed
MINOR = re.compile(r"(\d+)\.(\d+)")


def record(values: Values) -> dict[str, Any]:
    """So that an upgrade keeps what was chosen."""
    said = {each.name: _text(getattr(values, each.name)) for each in fields(Values)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RECORD, "namespace": values.namespace},
        "data": {"version": VERSION, **said},
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def kept(data: Mapping[str, str], said: list[str]) -> tuple[Values, list[str]]:
    """Values for the new version, with what is said now, and sentences about what is not kept. Raises BadValue.

    An image that was the old version's own becomes the new one's.
    """
    known = {each.name for each in fields(Values)}
    former = data.get("version", "")
    pairs, lost = [], []
    for name, text in data.items():
        if name == "image" and text == f"seine.dev/seine:{former}":
            continue
        if name in known:
            pairs.append(f"{name}={text}")
        elif name != "version":
            lost.append(f"{name}={text} means nothing to this version")
    return chosen([*pairs, *said]), lost


def apart(former: str, now: str = VERSION) -> str:
    """A sentence when the two are not neighbours."""
    before, after = MINOR.match(former), MINOR.match(now)
    if before is None or after is None:
        return f"the installed version calls itself {former!r}, which is no version"
    if before[1] != after[1] or abs(int(before[2]) - int(after[2])) > 1:
        return f"{former} is installed and this is {now}: go by one minor version at a time"
    return ""
