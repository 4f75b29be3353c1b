"""Lines of a watch and pages of a list -> events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.kube import objects
from mesh.kube.api.decode import (
    Alive,
    Broken,
    Complete,
    Decoder,
    Garbage,
    Gone,
    Lines,
    Put,
    Refusal,
    Removed,
    refusal,
)


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(objects.Service)


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "resourceVersion": "7"}, "spec": spec}


def line(kind: str, value: Any) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode()


def test_objects_come_change_and_go(decoder):
    for kind in ("ADDED", "MODIFIED"):
        event, version = decoder.line(line(kind, service(clusterIP="10.96.0.1")))
        assert isinstance(event, Put)
        assert (event.key, version) == (("shop", "web"), "7")
        assert isinstance(event.object, objects.Service)
        assert event.object.spec.cluster_ip == "10.96.0.1"
    assert decoder.line(line("DELETED", service(ports="any"))) == (Removed(("shop", "web")), "7")


def test_a_bookmark_says_that_the_server_is_there_or_that_a_list_is_complete(decoder):
    mark: dict[str, Any] = {"metadata": {"resourceVersion": "9"}}
    assert decoder.line(line("BOOKMARK", mark)) == (Alive(), "9")
    mark["metadata"]["annotations"] = {"k8s.io/initial-events-end": "true"}
    assert decoder.line(line("BOOKMARK", mark)) == (Complete(), "9")


def test_an_object_of_another_schema_is_named_and_its_version_counts(decoder):
    event, version = decoder.line(line("ADDED", service(ports=[{"port": "80"}])))
    assert isinstance(event, Broken)
    assert (event.key, version) == (("shop", "web"), "7")
    assert "$.spec.ports[0].port" in event.reason


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b'{"type":"ADDED"}', b'{"type":"OTHER","object":{}}', b'{"type":"ADDED","object":3}'],
)
def test_what_no_server_says_is_garbage(decoder, content):
    with pytest.raises(Garbage):
        decoder.line(content)


def test_an_error_says_what_it_means(decoder):
    with pytest.raises(Gone):
        decoder.line(line("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}))
    with pytest.raises(Refusal, match="500 etcd is away"):
        decoder.line(line("ERROR", {"kind": "Status", "code": 500, "message": "etcd is away"}))


def test_a_page_has_its_objects_and_the_way_to_the_next(decoder):
    items = [service("a"), service("b", ports=3)]
    page = decoder.page(json.dumps({"metadata": {"resourceVersion": "3", "continue": "x"}, "items": items}).encode())
    assert [type(each) for each in page.events] == [Put, Broken]
    assert (page.version, page.more) == ("3", "x")
    assert decoder.page(b'{"metadata":{"resourceVersion":"3"},"items":null}').events == []
    for content in (b"<html>", b'{"items":[]}', b'{"metadata":{},"items":[3]}'):
        with pytest.raises(Garbage):
            decoder.page(content)


def test_a_refusal_that_is_no_status_is_shown_as_it_is():
    found = refusal(503, b"<html>no healthy upstream")
    assert isinstance(found, Refusal)
    assert (found.code, str(found)) == (503, "503 <html>no healthy upstream")
    assert len(str(refusal(403, b"x" * 10_000))) < 300


def test_lines_are_whole_however_they_come():
    text = b"one\ntwo\n\nthree\nrest"
    for size in range(1, len(text)):
        lines = Lines()
        pieces = (text[at : at + size] for at in range(0, len(text), size))
        assert [each for piece in pieces for each in lines.feed(piece)] == [b"one", b"two", b"", b"three"]


def test_a_line_has_a_limit():
    lines = Lines(10)
    assert list(lines.feed(b"0123456789")) == []
    with pytest.raises(Garbage, match="more than 10"):
        list(lines.feed(b"x"))
