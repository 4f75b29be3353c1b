"""One kind followed: what is asked after what came, and when. Time and chance are the test's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mesh.config import ApiConfig
from mesh.kube.api.decode import Complete, Event, Put, refusal
from mesh.kube.api.watching import Trouble, Watcher, kind_of, told


class Canned:
    """One answer. `end`: raised after the body; None: it just ends."""

    def __init__(self, body: bytes = b"", status: int = 200, end: Exception | None = None) -> None:
        self.status, self._body, self._end = status, body, end

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        yield self._body
        if self._end is not None:
            raise self._end

    async def read(self, most: int) -> bytes:
        return self._body

    async def refuse(self) -> Exception:
        return refusal(self.status, self._body)


class Script:
    """A server that gives these answers, and what it was asked."""

    skew_seconds = 0.0

    def __init__(self, *answers: Canned | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.enough = asyncio.Event()

    async def ask(self, target: str) -> Canned:
        self.asked.append(target)
        if not self.answers:
            self.enough.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        pass

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def line(kind: str, name: str = "", version: int = 0, **meta: Any) -> bytes:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": str(version), **meta}
    return json.dumps({"type": kind, "object": {"metadata": metadata}}).encode() + b"\n"


def status(code: int, message: str = "no") -> bytes:
    return json.dumps({"kind": "Status", "code": code, "message": message}).encode()


END = {"k8s.io/initial-events-end": "true"}
LIST = line("ADDED", "web", 5) + line("BOOKMARK", version=10, annotations=END)


def follow(*answers: Canned | Exception) -> tuple[Script, Watcher, list[Event]]:
    """Until the script is at its end."""

    async def body() -> tuple[Script, Watcher, list[Event]]:
        script = Script(*answers)
        watcher = Watcher(kind_of("Service"), script, ApiConfig(watch_seconds=100), script.sleep, lambda: 0.5)
        events: list[Event] = []

        async def collect() -> None:
            async for event in watcher.forever():
                events.append(event)

        task = asyncio.ensure_future(collect())
        await asyncio.wait({task, asyncio.ensure_future(script.enough.wait())}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return script, watcher, events

    return asyncio.run(body())


def names(events: list[Event]) -> list[str]:
    return [event.key[1] for event in events if isinstance(event, Put)]


def at(target: str) -> str:
    """Which version a request goes on from; "stream" or "list" for a new one."""
    if "sendInitialEvents=true" in target:
        return "stream"
    return target.partition("resourceVersion=")[2].partition("&")[0] or "list"


def test_paths_are_those_of_the_api():
    assert kind_of("Pod").path == "/api/v1/pods"
    assert kind_of("EndpointSlice").path == "/apis/discovery.k8s.io/v1/endpointslices"
    assert kind_of("MeshNode").path == "/apis/seine.dev/v1alpha1/meshnodes"
    assert kind_of("Pod", "spec.nodeName=n").target(limit=5) == "/api/v1/pods?fieldSelector=spec.nodeName%3Dn&limit=5"


def test_a_watch_goes_on_from_the_last_version_whatever_ended_it():
    script, watcher, events = follow(
        Canned(LIST + line("MODIFIED", "web", 11)),
        Canned(line("BOOKMARK", version=20), end=ConnectionResetError("reset")),
        TimeoutError("timed out"),
        Canned(line("ADDED", "db", 21)),
    )
    assert [at(each) for each in script.asked] == ["stream", "11", "20", "20", "21"]
    assert names(events) == ["web", "web", "db"]
    assert script.slept == [0.5, 1.0], "the end of a watch is normal, and is followed by the next at once"
    assert watcher.lists == 1


def test_a_list_that_was_cut_is_made_anew():
    script, _, events = follow(Canned(line("ADDED", "web", 5), end=ConnectionResetError("reset")), Canned(LIST))
    assert [at(each) for each in script.asked] == ["stream", "stream", "10"]
    assert sum(isinstance(each, Complete) for each in events) == 1


def test_a_server_without_streams_is_asked_for_pages_from_then_on():
    first = {"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    second = {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "b"}}]}
    script, _, events = follow(
        Canned(status(422), 422), Canned(json.dumps(first).encode()), Canned(json.dumps(second).encode())
    )
    assert ["limit=500" in each for each in script.asked] == [False, True, True, False]
    assert "continue=more" in script.asked[2]
    assert at(script.asked[3]) == "9"
    assert names(events) == ["a", "b"]


@pytest.mark.parametrize("answer", [Canned(status(410), 410), Canned(line("ERROR")[:10] + b"\n")])
def test_only_what_needs_a_list_is_followed_by_one(answer):
    script, watcher, _ = follow(Canned(LIST), answer, Canned(LIST))
    assert [at(each) for each in script.asked] == ["stream", "10", "stream", "10"]
    assert watcher.lists == 2


def test_a_version_that_is_too_old_means_a_list_at_once_but_not_one_after_the_other():
    gone = b'{"type":"ERROR","object":' + status(410) + b"}\n"
    script, _, _ = follow(Canned(LIST + line("BOOKMARK", version=11)), Canned(gone), Canned(LIST), Canned(gone))
    assert [at(each) for each in script.asked] == ["stream", "11", "stream", "10", "stream"]
    assert script.slept == [0.5], "nothing but a list came before the second"


@pytest.mark.parametrize(("code", "last"), [(403, 60.0), (404, 60.0), (401, 60.0), (500, 20.0), (429, 20.0)])
def test_what_waiting_does_not_mend_is_tried_slowly_in_the_end(code, last):
    script, watcher, _ = follow(*[Canned(status(code), code)] * 7)
    assert script.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, last]
    assert watcher.trouble == Trouble(code, f"{code} no")
    assert watcher.absent == (last == 60.0)
    assert watcher.lists == 0, "nothing was listed"


def test_a_server_that_asks_for_a_pause_has_it():
    busy = json.dumps({"kind": "Status", "code": 429, "message": "no", "details": {"retryAfterSeconds": 1}}).encode()
    script, _, _ = follow(*[Canned(busy, 429)] * 3)
    assert script.slept == [1.5] * 3


@pytest.mark.parametrize(("code", "then"), [(503, "10"), (429, "10"), (403, "stream")])
def test_a_busy_server_is_no_reason_for_a_new_list(code, then):
    script, _, _ = follow(Canned(LIST), Canned(status(code), code))
    assert at(script.asked[-1]) == then


def test_a_server_that_ends_every_watch_at_once_is_not_asked_in_a_circle():
    script, watcher, _ = follow(Canned(LIST), Canned(), Canned(), Canned())
    assert script.slept == [0.5, 1.0, 2.0]
    assert watcher.lists == 1


def test_trouble_ends_with_the_next_answer():
    _, watcher, _ = follow(Canned(LIST), ConnectionRefusedError("refused"), Canned(line("BOOKMARK", version=11)))
    assert watcher.trouble is None
    assert watcher.failures == 1


def test_sentences_say_what_it_means():
    assert "forbids us Pod, Node objects" in told(["Pod", "Node"], Trouble(403, "no"))
    assert "installed?" in told(["MeshNode"], Trouble(404, "no"))
    assert "what was known stays: refused" in told(["Pod"], Trouble(0, "refused"))
