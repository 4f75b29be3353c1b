"""The status document as metric families: pods, hooks, workers, source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

from mesh.model import PodState
from mesh.node.routing import Standing
from mesh.observe import families as f
from mesh.observe import identity_metrics, quic_metrics
from mesh.observe.exposition import Offer, Samples, plain
from mesh.observe.shortcut import others, use
from mesh.observe.status import PodStatus, StatusDocument, WorkerStatus


def _pod(pod: PodStatus) -> tuple[str, str]:
    return pod.namespace, pod.name


def _pods(document: StatusDocument) -> Iterator[Offer]:
    pods = document.pods
    yield (
        f.POD_STATE,
        plain(lambda: (((*_pod(pod), state), float(pod.state == state)) for pod in pods for state in PodState)),
    )
    yield f.POD_BYPASSING, plain(lambda: ((_pod(pod), pod.bypassing) for pod in pods))
    yield f.POD_IDENTITY, plain(lambda: (((*_pod(pod), pod.mtls, pod.identity), 1) for pod in pods))
    yield f.CAPTURE, plain(lambda: (((*_pod(pod), why), n) for pod in pods for why, n in others(pod.kernel).items()))
    yield f.STOCK, plain(lambda: (((*_pod(pod), family), n) for pod in pods for family, n in pod.stock.items()))


def _shortcut(document: StatusDocument) -> Iterator[Offer]:
    """Series for pods that have it or had it."""
    used = [(_pod(pod), use(pod.kernel)) for pod in document.pods]
    used = [(pod, mine) for pod, mine in used if mine.sockets or any(mine.fallbacks.values())]
    yield f.SHORTCUT_SOCKETS, plain(lambda: ((pod, mine.sockets) for pod, mine in used))
    yield f.SHORTCUT_MESSAGES, plain(lambda: ((pod, mine.messages) for pod, mine in used))
    yield f.SHORTCUT_BYTES, plain(lambda: ((pod, mine.bytes) for pod, mine in used))
    yield (
        f.SHORTCUT_FALLBACKS,
        plain(lambda: (((*pod, why), count) for pod, mine in used for why, count in mine.fallbacks.items())),
    )
    yield f.SHORTCUT, plain(lambda: [((), float(document.shortcut.available))])


def _policies(document: StatusDocument) -> Iterator[Offer]:
    policies = document.policies
    yield (
        f.AUTHZ,
        plain(
            lambda: (
                ((each.namespace, each.name, each.action, verdict), n)
                for each in policies
                for verdict, n in each.verdicts.items()
            )
        ),
    )


def _workers(document: StatusDocument) -> Iterator[Offer]:
    def each(value: str) -> Samples:
        return (((str(worker.worker),), float(getattr(worker, value))) for worker in document.workers)

    yield f.WORKER_UP, plain(partial(each, "up"))
    yield f.WORKER_RESTARTS, plain(partial(each, "restarts"))
    yield f.WORKER_HEARTBEAT, plain(partial(each, "heartbeat_age_seconds"))


def _engine(workers: tuple[WorkerStatus, ...]) -> Iterator[Offer]:
    def each(kept: str, name: str) -> Samples:
        for worker in workers:
            numbers: dict[str, int] = getattr(worker, kept)
            if name in numbers:
                yield (str(worker.worker),), numbers[name]

    for name in sorted({name for worker in workers for name in worker.counters}):
        yield f.engine(name, "counter"), plain(partial(each, "counters", name))
    for name in sorted({name for worker in workers for name in worker.gauges}):
        yield f.engine(name, "gauge"), plain(partial(each, "gauges", name))


def _routing(document: StatusDocument) -> Iterator[Offer]:
    standings = Counter(each.standing for each in document.routing.neighbours)
    yield f.NODE_ROUTES, plain(lambda: (((standing,), standings[standing]) for standing in Standing))
    yield f.NODE_ROUTE_REPAIRS, plain(lambda: [((), document.routing.repairs_total)])


def _cni(document: StatusDocument) -> Iterator[Offer]:
    """Nothing where no such step is wanted."""
    if (found := document.cni) is not None:
        yield f.CNI_PODS, plain(lambda: (((result,), n) for result, n in found.counts.items()))
        yield f.CNI_INSTALLED, plain(lambda: [((), float(not found.problem))])
        yield f.CNI_REPAIRS, plain(lambda: [((), found.repairs_total)])


def offers(document: StatusDocument) -> Iterator[Offer]:
    yield from _pods(document)
    yield from _shortcut(document)
    yield from _policies(document)
    yield from _workers(document)
    yield from _engine(document.workers)
    yield f.PEER_WORKLOADS, plain(lambda: (((peer.node, peer.transport), peer.workloads) for peer in document.peers))
    yield f.PEER_MISSING, plain(lambda: (((peer.node,), peer.missing_seconds) for peer in document.peers))
    yield f.PEER_LISTS_LOST, plain(lambda: [((), document.peer_lists_lost)])
    yield f.ANNOUNCED, plain(lambda: [((), document.announced.workloads)])
    yield from _routing(document)
    yield from _cni(document)
    yield from identity_metrics.offers(document)
    yield from quic_metrics.offers(document)
    yield f.SOURCE_AGE, plain(lambda: [((), document.source.age_seconds)])
    yield f.SOURCE_UNCHANGED, plain(lambda: [((), document.source.unchanged_seconds)])
    yield f.SOURCE_WARNINGS, plain(lambda: [((), len(document.source.warnings))])
    yield f.SOURCE_ERRORS, plain(lambda: [((), len(document.source.errors))])
    kinds = document.source.kinds
    yield f.SOURCE_LISTS, plain(lambda: [((kind,), each.lists) for kind, each in kinds.items()])
    yield f.SOURCE_FAILURES, plain(lambda: [((kind,), each.failures) for kind, each in kinds.items()])
    yield f.REPAIRS, plain(lambda: [((), document.repairs_total)])
    yield f.BUILD, plain(lambda: [((document.version, document.kernel, document.node), 1)])
    yield f.ISTIO_BUILD, plain(lambda: [(("seine", document.version), 1)])
