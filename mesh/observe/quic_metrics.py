"""The status document's QUIC process as metric families; nothing where nobody asks for QUIC."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.observe import families as f
from mesh.observe.exposition import Offer, Samples, plain
from mesh.observe.status import StatusDocument


def offers(document: StatusDocument) -> Iterator[Offer]:
    quic = document.quic
    if not (quic.wanted or quic.up or quic.counts):
        return

    def events() -> Samples:
        for name, count in quic.counts.items():
            what, _, why = name.partition("/")
            yield (what, why), count

    yield f.QUIC_UP, plain(lambda: [((), float(quic.up))])
    yield f.QUIC_RESTARTS, plain(lambda: [((), quic.restarts)])
    yield f.QUIC_NOW, plain(lambda: (((what,), n) for what, n in quic.levels.items()))
    yield f.QUIC_EVENTS, plain(events)
    yield f.QUIC_WAY, plain(lambda: (((way.node,), float(way.way == "quic")) for way in quic.ways))
