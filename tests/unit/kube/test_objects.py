import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from mesh.kube.objects import KINDS, SEINE, EndpointSlice


@pytest.mark.parametrize("kind", KINDS)
def test_json_of_an_api_server_decodes_with_the_same_structs(kind):
    text = b'{"kind":"x","apiVersion":"y","metadata":{"name":"a","labels":null,"managedFields":[{"manager":"m"}]}}'
    assert msgspec.json.decode(text, type=KINDS[kind][1]).metadata.name == "a"


def test_what_an_api_server_writes_for_an_empty_slice():
    text = b'{"metadata":{"name":"a"},"addressType":"IPv4","endpoints":null,"ports":null}'
    found = msgspec.json.decode(text, type=EndpointSlice)
    assert (found.endpoints, found.ports) == (None, None)


# --- the definitions that clusters are given

CRDS = Path(__file__).resolve().parents[3] / "deploy/crds"
OURS = {kind: struct for kind, (version, struct) in KINDS.items() if version == SEINE}


def definitions() -> dict[str, dict[str, Any]]:
    """By kind."""
    found = [yaml.safe_load(path.read_text()) for path in CRDS.glob("*.yaml")]
    return {each["spec"]["names"]["kind"]: each["spec"] for each in found}


def schema(kind: str) -> dict[str, Any]:
    (version,) = definitions()[kind]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def struct_of(annotation: Any) -> Any:
    """The struct in an annotation like `list[X] | None`; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((found for part in get_args(annotation) if (found := struct_of(part))), None)


def differences(struct: Any, described: dict[str, Any], where: str) -> Iterator[str]:
    """Sentences: what the struct reads and the schema does not describe, or the other way round."""
    described = described.get("items", described)
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    properties = described.get("properties", {})
    yield from (f"{where}.{name}: in one only" for name in fields.keys() ^ properties.keys())
    for name in fields.keys() & properties.keys():
        if not properties[name].get("description"):
            yield f"{where}.{name}: no description"
        if (inner := struct_of(fields[name])) is not None:
            yield from differences(inner, properties[name], f"{where}.{name}")


def test_there_is_a_definition_of_each_of_our_kinds_and_of_no_other():
    assert definitions().keys() == OURS.keys()


@pytest.mark.parametrize("kind", OURS)
def test_a_definition_describes_just_what_is_read(kind):
    found = definitions()[kind]
    assert f"{found['group']}/{found['versions'][0]['name']}" == SEINE
    (spec,) = [field.type for field in msgspec.structs.fields(OURS[kind]) if field.name == "spec"]
    assert list(differences(spec, schema(kind)["properties"]["spec"], "spec")) == []


@pytest.mark.parametrize("kind", OURS)
def test_a_printer_column_shows_a_field_that_is_described(kind):
    for column in definitions()[kind]["versions"][0]["additionalPrinterColumns"]:
        inside = schema(kind)
        path = re.sub(r"\[\?\([^)]*\)\]", "[*]", column["jsonPath"])  # [?(@.type=="Accepted")]: one of all
        for step in path.removesuffix("[*]").strip(".").replace("[*]", ".items").split("."):
            if inside == {"type": "object"}:
                break  # metadata is Kubernetes' own
            inside = inside["items"] if step == "items" else inside["properties"][step]
