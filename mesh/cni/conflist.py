"""Our entry in a node's network configuration: put in last, found, taken out. Pure: text -> text.

Whatever else is in the file stays as it was, and in its order. Our entry is known by its type alone; there is one at
most. Source: CNI specification 1.1.0, section 1.
"""

from __future__ import annotations

import json
from typing import Any

TYPE = "seine-cni"  # and the name of the program
SUFFIXES = (".conf", ".conflist", ".json")  # what runtimes read, first in the alphabet first
OLDEST = (0, 3, 0)  # before it no plugin was told the result of another


class BadConflist(ValueError):
    """A sentence: why it cannot have our entry."""


def entry(socket: str, rules: str, exempt: str) -> dict[str, str]:
    """`exempt`: the namespace that is never held up."""
    return {"type": TYPE, "socket": socket, "rules": rules, "exempt": exempt}


def with_entry(text: str, wanted: dict[str, str]) -> str | None:
    """None: it is there already, just so. Raises BadConflist."""
    whole = _read(text)
    plugins = whole["plugins"]
    ours = [each for each in plugins if each.get("type") == TYPE]
    if ours == [wanted]:
        return None
    if ours:
        first = next(number for number, each in enumerate(plugins) if each.get("type") == TYPE)
        plugins[first] = wanted
        whole["plugins"] = [each for number, each in enumerate(plugins) if number == first or each.get("type") != TYPE]
    else:
        plugins.append(wanted)
    return _written(whole)


def without_entry(text: str) -> str | None:
    """None: it has none. Raises BadConflist."""
    whole = _read(text)
    others = [each for each in whole["plugins"] if each.get("type") != TYPE]
    if len(others) == len(whole["plugins"]):
        return None
    return _written({**whole, "plugins": others})


def _read(text: str) -> dict[str, Any]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadConflist(f"it is no JSON ({error})") from None
    if not isinstance(whole, dict):
        raise BadConflist("it is no JSON object")
    plugins = whole.get("plugins")
    if "plugins" not in whole and "type" in whole:
        raise BadConflist("it is of a single plugin, after which no other can come; make it a .conflist")
    if not isinstance(plugins, list) or not plugins or not all(isinstance(each, dict) for each in plugins):
        raise BadConflist("it has no list of plugins")
    version = whole.get("cniVersion", "")
    if not isinstance(version, str) or _numbers(version) < OLDEST:
        raise BadConflist(f"its cniVersion is {version!r}, and plugins hear of each other's results from 0.3.0 on")
    return whole


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def _written(whole: dict[str, Any]) -> str:
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
