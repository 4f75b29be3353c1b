"""What a pool remembers of nodes has an end: of those that nobody asks for, and of those that are too many."""

from __future__ import annotations

from time import monotonic

import pytest

from mesh.forward.quic import pool as module
from mesh.forward.quic.pool import FORGET_SECONDS, QUIET_SECONDS, Pool
from tests.kit.street import Refusal, Street, spiffe, until
from tests.quic.conftest import Run
from tests.quic.test_life import by_hbone, silent


class Later:
    """The pool's clock, which a test sets forward."""

    def __init__(self) -> None:
        self.by = 0.0

    def __call__(self) -> float:
        return monotonic() + self.by


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    made = Later()
    monkeypatch.setattr(module, "monotonic", made)
    return made


def pool_of(street: Street) -> Pool:
    assert street.a.node.parts
    return street.a.node.parts.pool


def test_a_node_that_nobody_asks_for_any_more_is_forgotten(run: Run, later: Later) -> None:
    async def scenario() -> None:
        async with Street() as street:
            pool = pool_of(street)
            reader, writer = await street.a.call(street.b)
            writer.close()
            assert await reader.read() == b""
            await until(lambda: not street.a.node._levels()["streams"], "the stream's end")
            later.by = QUIET_SECONDS + 1
            pool.tend()
            await until(lambda: not street.a.node._levels()["connections"], "the quiet connection to be closed")
            assert [way.node for way in pool.ways()] == [street.b.where], "not yet: it may be asked for again"
            later.by = FORGET_SECONDS + 1
            pool.tend()
            assert (pool._lines, pool._nodes, pool.ways()) == ({}, {}, ())

    run(scenario())


@pytest.mark.usefixtures("quick")
def test_a_node_that_never_answered_is_forgotten_too(run: Run, later: Later) -> None:
    async def scenario() -> None:
        with silent() as gone:
            async with Street() as street:
                pool = pool_of(street)
                await by_hbone(street, node=f"127.0.0.1:{gone.getsockname()[1]}")
                assert len(pool.ways()) == 1
                later.by = FORGET_SECONDS + 1
                pool.tend()
                assert (pool._lines, pool._nodes, pool.ways()) == ({}, {}, ())

    run(scenario())


def test_what_stands_is_kept_however_old_it_is(run: Run, later: Later) -> None:
    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            later.by = 10 * FORGET_SECONDS
            pool_of(street).tend()
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            again, more = await street.a.call(street.b)
            assert street.a.counts["handshakes/client"] == 1
            for each in (writer, more):
                each.close()
            assert again is not None

    run(scenario())


def test_more_keys_than_it_holds_push_out_the_oldest_and_are_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_MAX", 8)

    async def scenario() -> None:
        async with Street() as street:
            pool = pool_of(street)
            reader, writer = await street.a.call(street.b)
            for number in range(50):
                with pytest.raises(Refusal):  # nobody here has that name
                    await street.a.ask(street.a.opening(street.b, source=spiffe(f"unknown-{number}")))
                assert len(pool._lines) <= 8
            assert street.a.counts["forgotten/full"] > 0
            writer.write(b"untouched")
            assert await reader.readexactly(9) == b"untouched"
            writer.close()

    run(scenario())
