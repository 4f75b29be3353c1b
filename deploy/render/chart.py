"""The objects of an installation as templates for Helm, found by asking for them. Pure.

`objects` is called with marks in place of values: a text stands where its mark stands, a number likewise; and once
more per switch, which shows what the switch changes. So there is no second description of an installation that could
differ from the first; tests/cluster compares what the real helm makes of it with what `seine install` prints.

Refused, with a sentence, is what cannot be told so: a switch that takes something out or reorders it, two that change
the same, and a value that is computed with (a number's mark would come out as another number).
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any, get_type_hints

import yaml

from mesh.install import Values, objects

Object = dict[str, Any]
NUMBER = 700_000_000  # marks of numbers begin here: no other number of an installation is near
KINDS = get_type_hints(Values)
SWITCHES = [each.name for each in fields(Values) if KINDS[each.name] is bool]
NUMBERS = {
    name: NUMBER + index for index, name in enumerate(each.name for each in fields(Values) if KINDS[each.name] is int)
}


class Untellable(ValueError):
    """A sentence for whoever changed mesh/install."""


def marked(on: str = "") -> Values:
    """Marks instead of values, and one switch on. No value is checked: none is meant."""
    made: Values = object.__new__(Values)
    for each in fields(Values):
        kind = KINDS[each.name]
        mark = each.name == on if kind is bool else NUMBERS[each.name] if kind is int else f"@@{each.name}@@"
        object.__setattr__(made, each.name, mark)
    return made


def templates() -> dict[str, str]:
    """File name -> template, an object each."""
    base = {_key(each): each for each in objects(marked())}
    seen = dict(base)
    only: dict[str, str] = {}
    for switch in SWITCHES:
        found = {_key(each): each for each in objects(marked(switch))}
        if missing := base.keys() - found.keys():
            raise Untellable(f"{switch} takes {', '.join(sorted(missing))} out; templates can only add")
        for key, each in found.items():
            if key not in base:
                seen[key], only[key] = each, switch
            elif each != base[key]:
                seen[key] = _merged(seen[key], base[key], each, switch)
    return {f"{key}.yaml": _template(each, only.get(key, "")) for key, each in seen.items()}


def _key(each: Object) -> str:
    return f"{each['kind']}-{each['metadata']['name']}".lower().removesuffix("-@@namespace@@")


def _merged(seen: Any, base: Any, changed: Any, switch: str) -> Any:
    """`seen` is `base` with what other switches did to it."""
    if base == changed:
        return seen
    if isinstance(base, dict) and isinstance(changed, dict) and base.keys() <= changed.keys():
        made = {key: _merged(seen[key], base[key], changed[key], switch) if key in base else seen[key] for key in seen}
        if added := changed.keys() - base.keys():
            made[f"@@if {switch}@@"] = None
            made |= {key: changed[key] for key in changed if key in added}
            made[f"@@end {switch}@@"] = None
        return made
    if isinstance(base, list) and isinstance(changed, list):
        return _merged_list(seen, base, changed, switch)
    if isinstance(base, dict | list) or seen != base:
        raise Untellable(f"{switch} makes {changed!r} of {seen!r}: too much for a template")
    return f"@@pick {switch} {json.dumps(changed)} {json.dumps(base)}@@"


def _merged_list(seen: list[Any], base: list[Any], changed: list[Any], switch: str) -> list[Any]:
    """Members change inside, or some are added at the end."""
    if len(base) == len(changed):
        return [_merged(*each, switch) for each in zip(seen, base, changed, strict=False)] + seen[len(base) :]
    if changed[: len(base)] != base:
        raise Untellable(f"{switch} makes {changed!r} of {base!r}: templates can only add at the end")
    return [*seen, f"@@if {switch}@@", *changed[len(base) :], f"@@end {switch}@@"]


def _template(each: Object, switch: str) -> str:
    text = yaml.safe_dump(each, sort_keys=False, width=1_000_000).replace("{{", '{{ "{{" }}')
    text = re.sub(r"^ *(?:- )?'@@if (\w+)@@'(?:: null)?$", r"{{- if .Values.\1 }}", text, flags=re.MULTILINE)
    text = re.sub(r"^ *(?:- )?'@@end (\w+)@@'(?:: null)?$", r"{{- end }}", text, flags=re.MULTILINE)
    text = re.sub(r"'@@pick (\w+) (.*) (.*)@@'", r"{{ if .Values.\1 }}\2{{ else }}\3{{ end }}", text)
    text = re.sub(r"'@@(\w+)@@'", r"{{ .Values.\1 | quote }}", text)
    text = re.sub(r"@@(\w+)@@", r"{{ .Values.\1 }}", text)  # within a text: values have no character that needs quotes
    for name, mark in NUMBERS.items():
        text = text.replace(f"'{mark}'", f"{{{{ .Values.{name} | int | quote }}}}")
        text = text.replace(str(mark), f"{{{{ .Values.{name} | int }}}}")
    if "@@" in text or re.search(rf"\b{NUMBER // 1000}\d{{3}}\b", text):
        raise Untellable(f"a mark is left in {_key(each)}: is a value computed with?")
    return f"{{{{- if .Values.{switch} }}}}\n{text}{{{{- end }}}}\n" if switch else text
