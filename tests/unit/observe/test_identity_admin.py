from __future__ import annotations

import asyncio
import json

import pytest

from mesh.observe.identity_admin import Refused, routes
from mesh.observe.server import Request, Response
from mesh.observe.status import DenialStatus, IdentityStatus, Rotation
from tests.unit.observe.values import identity


class Credentials:
    def __init__(self) -> None:
        self.did: list[tuple[object, ...]] = []

    def shown(self, chains: bool = False) -> IdentityStatus:
        return identity(problem=f"chains {chains}")

    def outlook(self) -> Rotation:
        return Rotation(step="none", sentence="it would")

    async def rotate(self) -> Rotation:
        self.did.append(("rotate",))
        return Rotation(step="switch", sentence="it does")

    async def deny(self, what: str, seconds: float, reason: str) -> DenialStatus:
        if what == "nobody":
            raise Refused("'nobody' is neither")
        self.did.append((what, seconds, reason))
        return DenialStatus(what=what, until=5.0, reason=reason)

    async def allow(self, what: str) -> bool:
        return what == "beef"


def ask(method: str, path: str, who: Credentials | None = None, **query: str) -> Response:
    request = Request(method=method, path=path, query={name: [value] for name, value in query.items()}, headers={})
    handler = routes(who or Credentials())[method, path]

    async def run() -> Response:
        return await handler(request)

    return asyncio.run(run())


def test_identities_are_shown_with_their_certificates() -> None:
    found = json.loads(ask("GET", "/identity").body)
    assert (found["problem"], found["certificates"][1]["serial"]) == ("chains True", "4b1f")


def test_looking_at_a_rotation_begins_none() -> None:
    who = Credentials()
    assert json.loads(ask("GET", "/identity/rotate", who).body)["sentence"] == "it would"
    assert who.did == []
    assert json.loads(ask("POST", "/identity/rotate", who).body)["step"] == "switch"
    assert who.did == [("rotate",)]


def test_a_denial_is_made_and_taken_back() -> None:
    who = Credentials()
    made = json.loads(ask("POST", "/identity/deny", who, what="beef", seconds="60.5", reason="lost").body)
    assert (made["what"], who.did) == ("beef", [("beef", 60.5, "lost")])
    assert json.loads(ask("POST", "/identity/allow", who, what="beef").body) == {"was_denied": True}
    assert json.loads(ask("POST", "/identity/allow", who, what="b0").body) == {"was_denied": False}


@pytest.mark.parametrize("seconds", ["", "soon", "0", "-1", "nan", "inf", "1e9"])
def test_a_denial_without_a_sensible_time_is_refused(seconds: str) -> None:
    who = Credentials()
    answer = ask("POST", "/identity/deny", who, what="beef", seconds=seconds)
    assert (answer.status, who.did) == (409, [])
    assert answer.body.startswith(b"seconds is ")


def test_what_the_authority_refuses_is_told_in_its_words() -> None:
    answer = ask("POST", "/identity/deny", what="nobody", seconds="60")
    assert (answer.status, answer.body) == (409, b"'nobody' is neither\n")
