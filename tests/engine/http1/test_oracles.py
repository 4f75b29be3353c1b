"""What we accept and forward others accept too, and see the same message in it; where they differ is written down.

Where we are stricter: `lax` of each refused vector names the parsers that accept it. Where another parser is stricter
than we are: `excused` says why. Pinned versions: llhttp 9.4.3 (httptools 0.9.0), h11 0.16.0.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.http1.conftest import Judge
from tests.engine.http1.judge import Case, Message, cases
from tests.engine.http1.mutants import mutants
from tests.engine.http1.oracles import LONGEST_BODY, ORACLES, Reading, body_for

CASES = cases()
MUTANTS = 12_000
# A transparent mesh carries any method; llhttp knows these and some of WebDAV.
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "PROPFIND", "M-SEARCH"}


def expected(message: Message, answer: dict[str, Any]) -> Reading:
    """What a parser must see in a head that we accepted and in a body framed as we say."""
    line = (answer["verb"], answer["target"]) if message.part == "request" else (str(answer["status"]),)
    body = body_for(answer["framing"], answer["content_length"])
    whole = answer["content_length"] <= LONGEST_BODY
    return {
        "none": Reading(line, b"", True),
        "length": Reading(line, body, whole),
        "chunked": Reading(line, b"abc", True),
        "until_close": Reading(line, b"", False),
        "tunnel": Reading(line, b"", True),
    }[answer["framing"]]


def excused(oracle: str, message: Message, answer: dict[str, Any]) -> str:
    """Why this oracle need not see what we see, or nothing."""
    if oracle == "llhttp":
        if message.part == "request" and answer["verb"] not in METHODS:
            return "it knows a list of methods"
        if message.part == "response" and message.method != "get":
            return "httptools cannot tell it what was asked"
        if message.part == "request" and answer["upgrade"]:
            return "it leaves the body of a request with Upgrade to its caller"
        if b"\t\r\n" in message.data:
            return "it takes a tab after a coding or length for a part of it"
    if oracle == "h11" and (answer.get("interim") or answer.get("framing") == "tunnel"):
        return "it waits for a final response, or pauses"
    return ""


def forwarded(answer: dict[str, Any]) -> bytes:
    head: bytes = answer["forwarded"].encode("latin-1")
    return head[:-2] + b"Connection: upgrade\r\n\r\n" if answer["upgrade"] else head


def differs(oracle: str, message: Message, answer: dict[str, Any]) -> str:
    """A sentence when the oracle, in the server's place, disagrees about a message that we accepted, else nothing."""
    if excused(oracle, message, answer):
        return ""
    if message.part == "chunked":
        reading = ORACLES[oracle](Message("chunked", message.data[: answer["consumed"]]), b"")
        agrees = reading is not None and reading.complete == answer["done"]
        return "" if agrees else f"{oracle} read {reading} of {message.data!r}, we {answer}"
    head = Message(message.part, forwarded(answer), message.method, message.upgrade)
    reading = ORACLES[oracle](head, body_for(answer["framing"], answer["content_length"]))
    wanted = expected(message, answer)
    return "" if reading == wanted else f"{oracle} read {reading}, not {wanted} of {head.data!r}"


def is_accepted(answer: dict[str, Any]) -> bool:
    return "length" in answer or "consumed" in answer


@pytest.mark.parametrize("oracle", ORACLES)
def test_accepted_vectors_are_read_alike(judge: Judge, oracle: str) -> None:
    answers = judge([case.message for case in CASES])
    pairs = [(case.message, answer) for case, answer in zip(CASES, answers, strict=True) if is_accepted(answer)]
    assert [found for message, answer in pairs if (found := differs(oracle, message, answer))] == []


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("part", ["request", "response", "chunked"])
def test_accepted_mutants_are_read_alike(judge: Judge, oracle: str, part: str) -> None:
    messages = mutants(part, MUTANTS, seed=20260828)
    answers = judge(messages)
    assert not [message.data for message, answer in zip(messages, answers, strict=True) if "disagree" in answer]
    pairs = [(message, answer) for message, answer in zip(messages, answers, strict=True) if is_accepted(answer)]
    assert MUTANTS / 5 < len(pairs) < MUTANTS * 4 / 5  # near the border, on both sides
    assert [found for message, answer in pairs if (found := differs(oracle, message, answer))] == []


def accepts(oracle: str, message: Message) -> bool:
    reading = ORACLES[oracle](message, b"")
    return reading is not None and (message.part != "chunked" or reading.complete)


def test_where_we_are_stricter_is_written_down() -> None:
    """Only for whole messages: a chunked body that we refuse and another finds incomplete is no difference."""

    def found(case: Case) -> tuple[str, ...]:
        return tuple(oracle for oracle in ORACLES if accepts(oracle, case.message))

    wrong = {case.name: found(case) for case in CASES if "refused" in case.wanted and found(case) != case.lax}
    assert wrong == {}
