"""Metric families -> text, in the format that the scraper accepts, only those that it asks for.

The text is prometheus_client's. It costs tens of microseconds a line, so it is made in a thread
(mesh.observe.observer), never on the agent's loop.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mesh.observe.families import Family

Labels = Sequence[str]
Samples = Iterable[tuple[Labels, float]]
Offer = tuple[Family, Callable[[Family], Metric]]  # what can be had, and how to build it if somebody asks

_PROCESS = ProcessCollector(registry=None)
_GZIP = 31  # zlib's code for the largest window with a gzip head
_EOF = b"# EOF\n"  # OpenMetrics' last line; the encoder ends every family with it


def plain(samples: Callable[[], Samples]) -> Callable[[Family], Metric]:
    """A counter or a gauge."""

    def build(family: Family) -> Metric:
        metric = family.plain()
        for labels, value in samples():
            metric.add_metric(labels, value)
        return metric

    return build


class Distribution:
    """Rows of (labels, counts per bucket, sum), one count more than bounds; bounds and sum in the family's unit."""

    def __init__(
        self, bounds: Sequence[float], rows: Callable[[], Iterable[tuple[Labels, Sequence[int], float]]]
    ) -> None:
        self._edges = [*map(floatToGoString, bounds), "+Inf"]
        self._rows = rows

    def __call__(self, family: Family) -> Metric:
        metric = family.histogram()
        for labels, counts, total in self._rows():
            metric.add_metric(labels, list(zip(self._edges, accumulate(counts), strict=True)), total)
        return metric


class _One(Collector):
    """What prometheus_client's encoders take for a registry."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


class Body(NamedTuple):
    content: bytes
    content_type: str
    encoding: str  # of HTTP: "gzip" or "identity"


def _metrics(offers: Iterable[Offer], names: Sequence[str]) -> Iterator[Metric]:
    for family, build in offers:
        if family.asked_for(names):
            yield build(family)
    for metric in _PROCESS.collect():
        name = metric.name + ("_total" if isinstance(metric, CounterMetricFamily) else "")
        if not names or name in names:
            yield metric


def render(offers: Iterable[Offer], accept: str = "", names: Sequence[str] = (), compress: bool = False) -> Body:
    """`names`: of families or samples, Prometheus' parameter name[]; none: everything.

    Family by family, so that the plain text of a large node (35 MB for 57 000 lines) is never in memory at once.
    """
    encoder, content_type = choose_encoder(accept)
    packer = zlib.compressobj(1, wbits=_GZIP)
    chunks = []
    for metric in _metrics(offers, names):
        text = encoder(_One(metric)).removesuffix(_EOF)
        chunks.append(packer.compress(text) if compress else text)
    end = _EOF if content_type.startswith("application/openmetrics-text") else b""
    chunks.append(packer.compress(end) + packer.flush() if compress else end)
    return Body(b"".join(chunks), content_type, "gzip" if compress else "identity")
