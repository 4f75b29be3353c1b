"""The QUIC process in metrics: counted by what and why, and silent where nobody asks for it."""

from mesh.observe import quic_metrics
from mesh.observe.exposition import render
from mesh.observe.status import QuicStatus, QuicWay
from tests.unit.observe.values import document


def text(quic: QuicStatus) -> str:
    return render(quic_metrics.offers(document(quic=quic))).content.decode()


def test_where_nobody_asks_for_it_there_is_no_series() -> None:
    assert list(quic_metrics.offers(document())) == []


def test_counts_have_their_reason_as_a_label() -> None:
    quic = QuicStatus(
        wanted=True,
        up=True,
        restarts=1,
        counts={"bytes/sent": 5, "handshakes_failed/expired": 2, "plain": 1},
        levels={"streams": 3},
        ways=(QuicWay(node="192.0.2.1:15008"), QuicWay(node="192.0.2.2:15008", way="hbone")),
    )
    lines = text(quic).splitlines()
    for line in (
        "seine_quic_up 1.0",
        "seine_quic_restarts_total 1.0",
        'seine_quic_open{what="streams"} 3.0',
        'seine_quic_events_total{what="bytes",why="sent"} 5.0',
        'seine_quic_events_total{what="handshakes_failed",why="expired"} 2.0',
        'seine_quic_events_total{what="plain",why=""} 1.0',
        'seine_quic_way{node="192.0.2.1:15008"} 1.0',
        'seine_quic_way{node="192.0.2.2:15008"} 0.0',
    ):
        assert line in lines
