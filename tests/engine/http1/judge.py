"""Asks the parser in C: builds judge.c, hands it messages and reads its answers as Python values."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
VECTORS = ROOT / "tests/vectors/http1"
SOURCES = sorted((ROOT / "cext").glob("http1*.c"))
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'cext'}", f"-I{HERE}")
BUILDS = {
    "plain": ("-O2",),
    "sanitized": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "without-sse2": ("-O2", "-U__SSE2__"),  # the plain searches, as on other machines
}
PARTS = {"request": 0, "response": 1, "chunked": 2}
METHODS = {"other": 0, "get": 1, "head": 2, "options": 3, "connect": 4}


@dataclass(frozen=True)
class Message:
    part: str
    data: bytes
    method: str = "get"  # of the request that a response answers
    upgrade: bool = False

    @property
    def frame(self) -> bytes:
        return struct.pack("=BBBxI", PARTS[self.part], METHODS[self.method], self.upgrade, len(self.data)) + self.data


@dataclass(frozen=True)
class Case:
    """One vector: `wanted` is {"accepted": {...}}, {"refused": reason, "status": status} or {"pending": True}."""

    name: str
    message: Message
    wanted: dict[str, Any]
    lax: tuple[str, ...]  # the parsers known to accept what is refused here


def data_of(described: str | list[str | list[Any]]) -> bytes:
    parts = [described] if isinstance(described, str) else described
    return b"".join((p if isinstance(p, str) else p[0] * p[1]).encode("latin-1") for p in parts)


def cases() -> list[Case]:
    found = []
    for path in sorted(VECTORS.glob("*.json")):
        table = json.loads(path.read_text())
        for row in table["cases"]:
            method, upgrade = row.get("method", "GET").lower(), row.get("upgrade", False)
            wanted = {key: row[key] for key in ("accepted", "refused", "status", "pending") if key in row}
            message = Message(table["part"], data_of(row["bytes"]), method, upgrade)
            found.append(Case(f"{path.stem}: {row['name']}", message, wanted, tuple(row.get("lax", ()))))
    return found


def build(target: Path, source: Path, flags: tuple[str, ...]) -> Path:
    subprocess.run(["gcc", *FLAGS, *flags, "-o", target, source, *SOURCES], check=True)
    return target


def judged(program: Path, messages: list[Message]) -> list[dict[str, Any]]:
    frames = b"".join(message.frame for message in messages)
    done = subprocess.run([program], input=frames, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(messages)
    return [readable(message.data, answer) for message, answer in zip(messages, answers, strict=True)]


def readable(data: bytes, answer: dict[str, Any]) -> dict[str, Any]:
    """Slices become text; a byte is the character of its number."""
    text = data.decode("latin-1")
    for key in ("verb", "target", "path", "host", "upgrade_to"):
        if key in answer:
            answer[key] = cut(text, *answer[key])
    if "forwarded" in answer:
        answer["forwarded"] = bytes.fromhex(answer["forwarded"]).decode("latin-1")
        answer["fields"] = [[cut(text, *field[:2]), cut(text, *field[2:])] for field in answer["fields"]]
    return answer


def cut(text: str, at: int, length: int) -> str:
    return text[at : at + length]
