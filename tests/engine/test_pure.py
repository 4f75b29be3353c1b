"""The engine's pure C files: the balancer against its definition, detection up to an unreadable page, timers."""

from __future__ import annotations

import random
import re
import ssl
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from mesh.balance import ewma
from tests.engine.build import CEXT, build_script, pure_library
from tests.engine.pages import Guarded

MORE, OTHER, HTTP1, HTTP2, TLS = range(5)
SECOND = 10**9
DECAY = 10.0 * SECOND


class Pure:
    def __init__(self, path: Path) -> None:
        declarations = build_script().declarations
        self.ffi: Any = FFI()
        self.ffi.cdef(declarations(CEXT / "balance.h") + declarations(CEXT / "detect.h"))
        self.ffi.cdef("int wheel_run(uint64_t, const uint64_t *, uint64_t *, int, int, const uint64_t *, int);")
        self.ffi.cdef("int mprotect(void *, size_t, int);")
        self.lib: Any = self.ffi.dlopen(str(path))

    def loads(self, *rows: tuple[float, int, int, int]) -> list[Any]:
        """rtt, stamp, pending, weight."""
        made = [self.ffi.new("struct load *") for _ in rows]
        for load, (rtt, stamp, pending, weight) in zip(made, rows, strict=True):
            load.rtt_ns, load.stamp_ns, load.pending, load.weight = rtt, stamp, pending, weight
        return made

    def choice(self, loads: list[Any], tried: list[Any] | None = None) -> tuple[Any, Any]:
        keep = [self.ffi.new("struct load *[]", loads or 1), self.ffi.new("struct load *[]", tried or 1)]
        weights = [load.weight for load in loads]
        if len(set(weights)) > 1 or 0 in weights:
            keep.append(self.ffi.new("uint64_t[]", [sum(weights[: i + 1]) for i in range(len(weights))]))
        choice = self.ffi.new("struct choice *")
        choice.loads, choice.tried = keep[0], keep[1]
        choice.cumulative = keep[2] if len(keep) > 2 else self.ffi.NULL
        choice.count, choice.tried_count = len(loads), len(tried or [])
        return choice, (keep, loads)


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Pure:
    return Pure(pure_library(tmp_path_factory.mktemp("pure")))


# --- balance


def test_the_estimate_is_that_of_the_definition(pure: Pure) -> None:
    chance = random.Random(1)
    (load,) = pure.loads((0, 0, 0, 1))
    pure.lib.balance_start(load, 1e9, 0)
    model, now = ewma.Load(rtt=1e9), 0
    for _ in range(2000):
        now += int(chance.expovariate(1 / SECOND))
        rtt = chance.lognormvariate(14, 2)
        pure.lib.balance_observe(load, rtt, now, DECAY)
        model = model.observe(rtt, now, DECAY)
        assert load.rtt_ns == pytest.approx(model.rtt)
        load.pending = chance.randrange(5)
        later = now + chance.randrange(30 * SECOND)
        cost = ewma.Load(model.rtt, model.stamp, load.pending).cost(later, DECAY)
        assert pure.lib.balance_cost(load, later, DECAY) == pytest.approx(cost)


def test_a_clock_that_goes_back_changes_nothing(pure: Pure) -> None:
    (load,) = pure.loads((1e6, 5 * SECOND, 0, 1))
    assert pure.lib.balance_cost(load, 0, DECAY) == 1e6


def test_the_cheaper_of_two_is_taken(pure: Pure) -> None:
    loads = pure.loads((5e6, 0, 0, 1), (1e6, 0, 0, 1))
    choice, _keep = pure.choice(loads)
    seed = pure.ffi.new("uint64_t *", 1)
    assert {pure.lib.balance_p2c(choice, 0, DECAY, seed) for _ in range(50)} == {1}
    loads[1].pending = 9
    assert {pure.lib.balance_p2c(choice, 0, DECAY, seed) for _ in range(50)} == {0}


def test_among_many_the_costliest_is_never_taken_and_all_others_are(pure: Pure) -> None:
    loads = pure.loads(*((1e6 + i, 0, 0, 1) for i in range(20)))
    choice, _keep = pure.choice(loads)
    seed = pure.ffi.new("uint64_t *", 7)
    seen = Counter(pure.lib.balance_p2c(choice, 0, DECAY, seed) for _ in range(20_000))
    assert set(seen) == set(range(19))
    expected = [2 * (19 - i) / (20 * 19) for i in range(20)]  # chance to be drawn with a costlier one
    for index in range(19):
        assert seen[index] / 20_000 == pytest.approx(expected[index], abs=0.01)


def test_equal_costs_follow_the_weights(pure: Pure) -> None:
    loads = pure.loads((1e6, 0, 0, 1), (1e6, 0, 0, 3), (1e6, 0, 0, 0))
    choice, _keep = pure.choice(loads)
    seed = pure.ffi.new("uint64_t *", 3)
    seen = Counter(pure.lib.balance_p2c(choice, 0, DECAY, seed) for _ in range(40_000))
    assert seen[2] == 0
    assert seen[1] / seen[0] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("pick", ["p2c", "round_robin"])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 0)])
def test_what_was_tried_is_not_taken_again(pure: Pure, pick: str, weights: tuple[int, ...]) -> None:
    loads = pure.loads(*((1e6, 0, 0, weight) for weight in weights))
    seed, cursor = pure.ffi.new("uint64_t *", 5), pure.ffi.new("uint32_t *")

    def take(tried: list[Any]) -> int:
        choice, _keep = pure.choice(loads, tried)
        if pick == "p2c":
            return int(pure.lib.balance_p2c(choice, 0, DECAY, seed))
        return int(pure.lib.balance_round_robin(choice, cursor))

    for _ in range(50):
        tried: list[Any] = []
        order = []
        while (index := take(tried)) >= 0:
            order.append(index)
            tried.append(loads[index])
        assert sorted(order) == [i for i, weight in enumerate(weights) if weight]


@pytest.mark.parametrize("weights", [(), (0,), (0, 0)])
def test_where_there_is_nothing_nothing_is_taken(pure: Pure, weights: tuple[int, ...]) -> None:
    choice, _keep = pure.choice(pure.loads(*((1e6, 0, 0, weight) for weight in weights)))
    assert pure.lib.balance_p2c(choice, 0, DECAY, pure.ffi.new("uint64_t *", 1)) == -1
    assert pure.lib.balance_round_robin(choice, pure.ffi.new("uint32_t *")) == -1


def test_weighted_round_robin_is_smooth(pure: Pure) -> None:
    choice, _keep = pure.choice(pure.loads((0, 0, 0, 5), (0, 0, 0, 1), (0, 0, 0, 1)))
    cursor = pure.ffi.new("uint32_t *")
    turns = [pure.lib.balance_round_robin(choice, cursor) for _ in range(14)]
    assert turns == [0, 0, 1, 0, 2, 0, 0] * 2  # nginx's own example


# --- detection


class Detector:
    def __init__(self, pure: Pure) -> None:
        self.pure = pure
        self.put = Guarded(pure.ffi, pure.lib).put

    def detect(self, data: bytes) -> int:
        return int(self.pure.lib.detect(self.put(data), len(data)))

    def sni(self, data: bytes, capacity: int = 256) -> str | int:
        name = self.pure.ffi.new("char[]", capacity)
        found = self.pure.lib.detect_sni(self.put(data), len(data), name, capacity)
        return self.pure.ffi.string(name).decode("latin-1") if found == 1 else int(found)


@pytest.fixture(scope="module")
def guarded(pure: Pure) -> Detector:
    return Detector(pure)


def hello(name: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CASES = [
    (b"GET / HTTP/1.1\r\n", HTTP1),
    (b"M-SEARCH * HTTP/1.1\r\n", HTTP1),
    (b"OPTIONS * HTTP/1.0\r\n", HTTP1),
    (b"CONNECT a:1 HTTP/1.1\r\n", HTTP1),
    (b"GET http://a/\xc3\xa4 HTTP/1.1\n", HTTP1),
    (b"GET / HTTP/1.9", HTTP1),
    (PREFACE, HTTP2),
    (hello("a.example"), TLS),
    (b"GET /\r\n", OTHER),
    (b"GET  / HTTP/1.1\r\n", OTHER),
    (b" GET / HTTP/1.1\r\n", OTHER),
    (b"get / HTTP/1.1\r\n", OTHER),
    (b"GET /\x7f HTTP/1.1\r\n", OTHER),
    (b"GET / HTTP/2.0\r\n", OTHER),
    (b"PRI * HTTP/2.0\r\n\r\nXX", OTHER),
    (b"A" * 33, OTHER),
    (b"\x16\x02\x00\x00\x10\x01", OTHER),
    (b"\x16\x03\x05\x00\x10\x01", OTHER),
    (b"\x16\x03\x01\x00\x10\x02", OTHER),
    (b"\x00\x00\x00\x54\x00\x03\x00\x00", OTHER),
    (b"SSH-2.0-x\r\n", OTHER),
]


@pytest.mark.parametrize(("data", "expected"), CASES)
def test_every_beginning_leads_to_the_same_answer(guarded: Detector, data: bytes, expected: int) -> None:
    """Undecided as long as it could still be something, and never changing its mind."""
    answers = [guarded.detect(data[:length]) for length in range(len(data) + 1)]
    decided = [answer for answer in answers if answer != MORE]
    assert set(decided) == {expected}
    assert answers == [MORE] * (len(answers) - len(decided)) + decided


def test_the_preface_is_http1_only_as_long_as_it_could_be(guarded: Detector) -> None:
    assert guarded.detect(PREFACE[:-1]) == MORE
    assert guarded.detect(b"PRI / HTTP/1.1") == HTTP1


@pytest.mark.parametrize("name", ["a", "shop.example", "x" * 60 + ".example"])
def test_the_server_name_is_found_in_a_real_hello(guarded: Detector, name: str) -> None:
    data = hello(name)
    assert guarded.sni(data) == name
    assert guarded.sni(data + b"trailing") == name
    assert all(guarded.sni(data[:length]) == -1 for length in range(len(data)))
    assert guarded.sni(data, capacity=len(name)) == 0


def in_records(message: bytes, size: int) -> bytes:
    """The hello of one record, spread over several of at most `size` bytes."""
    pieces = [message[5 + at : 5 + at + size] for at in range(0, len(message) - 5, size)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece for piece in pieces)


@pytest.mark.parametrize("size", [20, 60, 100, 10_000])
def test_the_server_name_is_found_though_the_hello_is_spread_over_records(guarded: Detector, size: int) -> None:
    data = in_records(hello("shop.example"), size)
    assert guarded.sni(data) == "shop.example"
    assert guarded.sni(data + b"\x17trailing") == "shop.example"
    found = [guarded.sni(data[:length]) for length in range(len(data))]
    assert set(found) == {-1}, "nothing is said before the last byte that could change it"


def test_a_hello_beyond_the_bounds_has_no_name_and_nobody_waits_for_its_rest(guarded: Detector) -> None:
    assert guarded.sni(in_records(hello("shop.example"), 5)) == -2, "too many records"
    assert guarded.sni(b"\x16\x03\x01\x00\x05\x01\x00\x40\x00x") == -2, "more than 16 KiB"
    assert guarded.sni(b"\x16\x03\x01\x00\x04\x01\x00\x01\x00\x17\x03\x03\x00\x01x") == -2, "cut off by data"
    assert guarded.sni(b"\x16\x03\x01\x00\x04\x01\x00\x01\x00\x16\x03\x01\x00\x00") == -2, "an empty record"
    assert guarded.sni(b"\x16\x03\x01\x40\x01") == -2, "a record larger than one may be"


def test_a_hello_without_a_name_has_none(guarded: Detector) -> None:
    assert guarded.sni(hello(None)) == 0


def test_damaged_hellos_are_never_read_beyond_their_end(guarded: Detector) -> None:
    chance, good = random.Random(5), hello("shop.example")
    for _ in range(20_000):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 8)):
            data[chance.randrange(len(data))] = chance.choice([0, 1, 255, chance.randrange(256)])
        cut = bytes(data[: chance.randrange(len(data) + 1)])
        guarded.detect(cut)
        guarded.sni(cut)


def test_a_name_with_a_zero_byte_is_none(guarded: Detector) -> None:
    data = hello("shop.example")
    assert guarded.sni(data.replace(b"shop.example", b"shop\0example")) == 0


# --- timers


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale_ms", [50, 5_000, 300_000, 20_000_000])
def test_timers_fire_once_never_early_and_at_most_a_slot_late(pure: Pure, seed: int, scale_ms: int) -> None:
    chance = random.Random(seed)
    start = chance.randrange(10**15)
    due = [start + chance.randrange(scale_ms * 1_000_000) for _ in range(300)]
    stride = max(1, scale_ms * 1_000_000 // 400)
    steps = list(range(start, start + scale_ms * 1_000_000 + 2 * stride + 10_000_000, stride))
    fired = pure.ffi.new("uint64_t[]", len(due))
    early = pure.lib.wheel_run(start, due, fired, len(due), 7, steps, len(steps))
    assert early == 0
    for index, (when, at) in enumerate(zip(due, fired, strict=True)):
        if index % 7 == 0:
            assert at == 0  # stopped
        else:
            assert when <= at <= when + stride + (2 << 22)


# --- one list, written once


def counters_in_header() -> Iterator[str]:
    text = (CEXT / "stats.h").read_text()
    yield from re.findall(r"X\((\w+), [01]\)", text.split("STATS_COUNTERS(X)")[1].split("#define")[0])


def test_every_counter_is_counted_somewhere() -> None:
    """Both ways: a counter that nothing raises is a promise nobody keeps."""
    code = "".join(path.read_text() for path in CEXT.glob("*.c"))
    silent = [name for name in counters_in_header() if not re.search(rf"COUNT\(e, {name}\)|COUNTER_{name}\b", code)]
    assert silent == []
