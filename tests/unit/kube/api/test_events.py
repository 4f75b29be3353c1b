"""An Event as the API server wants it; tests/cluster has it taken."""

from __future__ import annotations

from datetime import UTC, datetime

from mesh.kube.api.events import event

NOW = datetime(2026, 11, 24, 18, 0, 0, tzinfo=UTC)


def made(message: str = "why", name: str = "web-1", reason: str = "Refused") -> dict[str, object]:
    return event("n1", "u1", "shop", name, reason, message, True, NOW)


def name(of: dict[str, object]) -> str:
    metadata = of["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["name"])


def test_it_is_about_the_pod_and_says_who_says_it():
    found = made()
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u1"}
    assert found["involvedObject"] == about
    assert (found["type"], found["reason"], found["message"]) == ("Warning", "Refused", "why")
    assert (found["reportingComponent"], found["firstTimestamp"]) == ("seine-agent", "2026-11-24T18:00:00Z")


def test_the_same_has_the_same_name_and_everything_else_another():
    assert name(made()) == name(made())
    assert len({name(each) for each in (made(), made("else"), made(reason="Leaking"), made(name="web-2"))}) == 4
    assert len(name(made(name="p" * 253))) <= 253
    assert len(str(made("x" * 5000)["message"])) == 1024
