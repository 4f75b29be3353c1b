"""The typed face of the C engine (cext/engine.h). It converts values and holds no state of its own.

The only module that touches `mesh.forward._engine`. Everything is called from the thread of the event loop:
`loop.add_reader(engine.fd, ...)`, `pump()` per wake-up, commands in between. No call blocks.
A descriptor handed over belongs to the engine from then on, also when the call raises.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from mesh.forward import stats
from mesh.forward._engine import ffi, lib
from mesh.forward.authz import ARRAYS, Arrays
from mesh.forward.messages import Limits
from mesh.forward.stats import Layout, StatsError
from mesh.model import (
    Authorization,
    Balancer,
    Direction,
    Mtls,
    Plan,
    PlanEndpoint,
    Protocol,
    Ruling,
    Series,
)

__all__ = [
    "LAYOUT",
    "ConnectionInfo",
    "Engine",
    "EngineConfig",
    "Event",
    "NeedPlan",
    "NeedSockets",
    "RulingsReady",
    "StatsError",
    "TunnelRefused",
    "bucket_bounds_us",
    "read_counters",
    "read_policies",
    "read_series",
    "stats_bytes",
]

EVENTS_PER_PUMP = 256
RULINGS_PER_CALL = 64
_MAPPED = b"\0" * 10 + b"\xff\xff"
_PROTOCOLS = {
    Protocol.DETECT: lib.ENGINE_DETECT,
    Protocol.HTTP: lib.ENGINE_HTTP,
    Protocol.HTTP2: lib.ENGINE_HTTP2,
    Protocol.TLS: lib.ENGINE_TLS,
    Protocol.OPAQUE: lib.ENGINE_OPAQUE,
}
_MTLS = {
    Mtls.PERMISSIVE: lib.ENGINE_MTLS_PERMISSIVE,
    Mtls.STRICT: lib.ENGINE_MTLS_STRICT,
    Mtls.DISABLED: lib.ENGINE_MTLS_DISABLED,
}
_BALANCERS = {Balancer.EWMA: lib.ENGINE_EWMA, Balancer.ROUND_ROBIN: lib.ENGINE_ROUND_ROBIN}


def _descriptors() -> int:
    import resource

    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 20)


def _default_max_connections() -> int:
    """0.8 of the descriptors, two for each connection (reliability.md)."""
    return int(0.8 * _descriptors() / 2)


def _default_max_pooled() -> int:
    """Half of what connections leave; the other half is for stock and listeners."""
    return min(4096, int(0.1 * _descriptors()))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Limits and times of one engine; cext/engine.h says what each one does."""

    banner: bytes = b"seine\n"  # what a canary is answered, at most 64 bytes
    seed: int = 0  # of the balancer's random source; 0: from the system
    max_connections: int = 0  # 0: from RLIMIT_NOFILE
    max_parked: int = 1024  # a burst while the agent compiles a plan; 64 KiB each at worst
    max_waiting: int = 1024  # the same for sockets
    max_buffers: int = 4096  # blocks of 64 KiB: 256 MiB per worker
    max_tunnels: int = 0  # 0: a quarter of max_connections
    max_handshakes: int = 256  # a millisecond of a core each
    max_held_bytes: int = 64 << 20  # 16 streams whose clients read nothing at all
    stuck_ms: int = 250  # a round trip round the world, and its retransmission
    accept_batch: int = 1  # a burst spreads over the workers, and no accept is made in vain
    budget: int = 1024  # events per pump, about 10 ms of work: the loop must breathe
    stock_target: int = 64
    stock_low: int = 56  # so that a worker alone can carry 50 new connections on after the death of the agent
    stock_wait_ms: int = 10_000  # the agent that fills it is replaced within five seconds, its pod and all
    connect_timeout_ms: int = 1000
    detect_timeout_ms: int = 10_000
    detect_hold_ms: int = 1000
    park_timeout_ms: int = 5000
    idle_timeout_ms: int = 3_600_000
    head_timeout_ms: int = 10_000
    stream_idle_ms: int = 300_000
    linger_ms: int = 5000
    max_linger_bytes: int = 16 << 20  # a client that uploads learns of a refusal before it has sent this much
    pool_idle_ms: int = 3000  # Linkerd's
    max_pooled: int = 0  # 0: from RLIMIT_NOFILE
    max_pooled_per_key: int = 128
    max_interim: int = 16
    tunnel_handshake_ms: int = 5000
    tunnel_idle_ms: int = 300_000  # ztunnel's
    tunnel_ping_ms: int = 15_000  # a peer that vanished is noticed within half a minute
    tunnel_silence_ms: int = 10_000
    backoff_ms: int = 100
    heartbeat_ms: int = 250
    series_idle_ms: int = 600_000  # Linkerd's, and what the agent's own rows are given
    decay_ms: int = 10_000
    default_rtt_ms: int = 1000
    outbound_port: int = 15001
    inbound_port: int = 15006
    tunnel_port: int = 15008
    canary_port: int = 15021


class NeedPlan(NamedTuple):
    """Nobody told us about this destination: answer with set_plan, or no_plan for this connection."""

    connection: int
    slot: int
    direction: Direction
    address: str
    port: int


class NeedSockets(NamedTuple):
    """The stock is low: answer with add_sockets, with an empty list if there can be none."""

    slot: int
    family: int  # 4 or 6
    missing: int


class NeedCarrier(NamedTuple):
    """A connection to another node that a carrier may take: answer with `carried`. Addresses are IP and port."""

    connection: int
    job: int
    source: str  # SPIFFE ids
    target: str
    node: str
    destination: tuple[str, int]
    client: tuple[str, int]


class Arrived(NamedTuple):
    """What became of an arrival: HBONE's status, 200 when its application is there."""

    job: int
    status: int


class TunnelRefused(NamedTuple):
    """The handshake of a tunnel failed, for this reason; to be logged. At most one a second of each reason."""

    slot: int
    direction: Direction
    address: str
    port: int
    reason: str


class RulingsReady(NamedTuple):
    """Take them with `rulings`."""


Event = NeedPlan | NeedSockets | NeedCarrier | Arrived | TunnelRefused | RulingsReady


class ConnectionInfo(NamedTuple):
    id: int
    slot: int
    direction: Direction
    state: str
    protocol: str
    client: str
    client_port: int
    address: str
    port: int
    service: int
    endpoint: int
    age_ms: int
    request_bytes: int
    response_bytes: int
    sni: str
    identity: str  # who the client has proven to be; empty: nobody


def pack_address(address: str) -> bytes:
    """16 bytes, IPv4 as ::ffff:a.b.c.d."""
    packed = ipaddress.ip_address(address).packed
    return packed if len(packed) == 16 else _MAPPED + packed


def unpack_address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed[12:] if packed.startswith(_MAPPED) else packed))


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


def _names(function: object) -> tuple[str, ...]:
    def each() -> Iterator[str]:
        number = 0
        while (name := function(number)) != ffi.NULL:  # type: ignore[operator]
            yield ffi.string(name).decode()
            number += 1

    return tuple(each())


def _layout() -> Layout:
    counters = _names(lib.engine_counter_name)
    return Layout(
        hash=lib.engine_stats_layout(),
        bytes=lib.engine_stats_bytes(),
        policies_offset=lib.engine_stats_policies_offset(),
        policies_max=lib.engine_stats_policies_max(),
        series_offset=lib.engine_stats_series_offset(),
        series_bytes=lib.engine_stats_series_bytes(),
        series_max=lib.engine_stats_series_max(),
        buckets=lib.engine_stats_buckets(),
        counters=counters,
        gauges=frozenset(name for i, name in enumerate(counters) if lib.engine_counter_is_gauge(i)),
        flags=_names(lib.engine_flag_name),
        protocols=_names(lib.engine_protocol_name),
        securities=_names(lib.engine_security_name),
        verdicts=_names(lib.engine_verdict_name),
    )


LAYOUT = _layout()
_STATES = _names(lib.engine_state_name)


def stats_bytes() -> int:
    """The size of the counters' file."""
    return LAYOUT.bytes


def bucket_bounds_us() -> tuple[int, ...]:
    """Exclusive upper bounds of the histogram's buckets; the last bucket has none."""
    return tuple(lib.engine_bucket_bound_us(bucket) for bucket in range(LAYOUT.buckets - 1))


def read_series(memory: memoryview) -> list[Series]:
    """For the agent; raises StatsError. Read the file into memory, do not map it: its writer could shorten it."""
    return list(stats.read_series(memory, LAYOUT))


def read_counters(memory: memoryview) -> tuple[dict[str, int], dict[str, int]]:
    """What only grows, and the gauges; by the names of cext/stats.h."""
    return stats.read_counters(memory, LAYOUT)


def read_policies(memory: memoryview) -> dict[int, dict[str, int]]:
    """What policies said so often, by their id; 0: none allowed it."""
    return stats.read_policies(memory, LAYOUT)


class Engine:
    def __init__(self, config: EngineConfig, stats_fd: int, heartbeat_fd: int, worker: int) -> None:
        values = asdict(config)
        values["seed"] = config.seed or int.from_bytes(os.urandom(8), "little")
        values["max_connections"] = config.max_connections or _default_max_connections()
        values["max_tunnels"] = config.max_tunnels or values["max_connections"] // 4
        values["max_pooled"] = config.max_pooled or _default_max_pooled()
        values["banner_bytes"] = len(config.banner)
        self._engine = lib.engine_new(ffi.new("struct engine_config *", values), stats_fd, heartbeat_fd, worker)
        if self._engine == ffi.NULL:
            raise OSError(ffi.errno, f"the engine does not start: {os.strerror(ffi.errno)}")
        self._to_carry = ffi.new("struct engine_opening *")
        self._events = ffi.new("struct engine_event[]", EVENTS_PER_PUMP)
        self.fd: int = lib.engine_fd(self._engine)

    def pump(self) -> list[Event]:
        """Handles what is ready; the descriptor stays readable while there is more."""
        count = lib.engine_pump(self._engine, self._events, EVENTS_PER_PUMP)
        return [event for i in range(count) if (event := self._event(self._events[i])) is not None]

    def _event(self, event: Any) -> Event | None:
        """None: a connection that is over by now."""
        if event.kind == lib.ENGINE_NEED_CARRIER:
            return self._need_carrier(event.connection, event.missing)
        return _event(event)

    def _need_carrier(self, connection: int, job: int) -> NeedCarrier | None:
        asked = self._to_carry
        if not lib.engine_to_carry(self._engine, connection, job, asked):
            return None
        return NeedCarrier(
            connection,
            job,
            source=ffi.string(asked.source).decode(),
            target=ffi.string(asked.target).decode(),
            node=ffi.string(asked.node).decode(),
            destination=(unpack_address(bytes(asked.destination)), asked.destination_port),
            client=(unpack_address(bytes(asked.client)), asked.client_port),
        )

    def carried(self, connection: int, job: int, fd: int, status: int) -> None:
        """The answer to NeedCarrier: 200 and a connected socket, 421 for "by HBONE", or as HBONE refuses."""
        lib.engine_carried(self._engine, connection, job, fd, status)

    def arrive(
        self,
        fd: int,
        job: int,
        slot: int,
        identity: str,
        target: str,
        destination: tuple[str, int],
        client: tuple[str, int],
        node: str,
    ) -> None:
        """A connected socket of somebody who has proven that identity, to whom we are `target`; `Arrived` tells what
        became of it.

        `client`: as the other node says; `node`: its address, which counts where the former is not of that identity.
        """
        names = [ffi.new("char[]", each.encode()) for each in (identity, target)]
        value = {
            "job": job,
            "identity": names[0],
            "target": names[1],
            "slot": slot,
            "address": pack_address(destination[0]),
            "port": destination[1],
            "client": pack_address(client[0]),
            "client_port": client[1],
            "node": pack_address(node),
        }
        result = lib.engine_arrive(self._engine, fd, ffi.new("struct engine_arrival *", value))
        _checked(result, f"arrival at {destination[0]}:{destination[1]}")

    def set_limits(self, limits: Limits) -> None:
        """For what begins from now on."""
        values = {name: getattr(limits, name) for name in limits.__struct_fields__}
        values["max_connections"] = limits.max_connections or _default_max_connections()
        lib.engine_set_limits(self._engine, ffi.new("struct engine_limits *", values))

    def beat_in(self, heartbeat_fd: int) -> None:
        """From now on, and once at once. The descriptor stays the caller's."""
        _checked(lib.engine_beat_in(self._engine, heartbeat_fd), "the heartbeat map")

    def poke(self) -> None:
        """Makes `fd` readable."""
        lib.engine_poke(self._engine)

    def add_pod(
        self,
        slot: int,
        source: int,
        opaque_ports: Iterable[int] = (),
        identity: str = "",
        mtls: Mtls = Mtls.PERMISSIVE,
        baggage: str = "",
        principal: str = "",
    ) -> None:
        """`source`: its id in the counters; `identity`: the SPIFFE id that its tunnels have; `principal`: the one that
        policies on this node know it by; `baggage`: what other nodes are told of it. Known: updated.
        """
        ports = ffi.new("uint16_t[]", sorted(opaque_ports))
        name, described = ffi.new("char[]", identity.encode()), ffi.new("char[]", baggage.encode())
        known_as = ffi.new("char[]", principal.encode())
        value = {
            "slot": slot,
            "source": source,
            "identity": name,
            "principal": known_as,
            "baggage": described,
            "mtls": _MTLS[mtls],
            "opaque_ports": ports,
            "opaque_count": len(ports),
        }
        _checked(lib.engine_add_pod(self._engine, ffi.new("struct engine_pod *", value)), f"pod in slot {slot}")

    def set_identity(self, name: str, chain: Iterable[bytes]) -> None:
        """A SPIFFE id of this node and its certificates as DER, leaf first. New, or renewed: connections go on."""
        der = b"".join(chain)
        _checked(lib.engine_set_identity(self._engine, name.encode(), der, len(der)), f"identity {name}")

    def remove_identity(self, name: str) -> None:
        lib.engine_remove_identity(self._engine, name.encode())

    def set_trust(self, domain: str, roots: Iterable[bytes], denied: Iterable[str] = ()) -> None:
        """Whom to believe: trust domain, root certificates as DER; `denied`: SPIFFE ids or serial numbers."""
        der, names = b"".join(roots), [ffi.new("char[]", each.encode()) for each in denied]
        result = lib.engine_set_trust(self._engine, domain.encode(), der, len(der), names, len(names))
        _checked(result, f"trust in {domain}")

    def set_signer(self, fd: int) -> None:
        """A connected socket to the signer, where handshakes ask for signatures from now on."""
        _checked(lib.engine_set_signer(self._engine, fd), "the signer's socket")

    def add_source(self, address: str, source: int, identity: str = "") -> None:
        """Which workload a client address is, and with which SPIFFE id ("" for unknown)."""
        result = lib.engine_add_source(self._engine, pack_address(address), source, identity.encode())
        _checked(result, f"source {address}")

    def remove_source(self, address: str) -> None:
        lib.engine_remove_source(self._engine, pack_address(address))

    def add_listener(self, slot: int, direction: Direction, fd: int) -> None:
        _checked(lib.engine_add_listener(self._engine, slot, direction, fd), f"listener of slot {slot}")

    def remove_pod(self, slot: int, close_connections: bool) -> None:
        """Connections without a server yet end in any case: the slot will be another pod's."""
        lib.engine_remove_pod(self._engine, slot, close_connections)

    def add_sockets(self, slot: int, family: int, fds: list[int]) -> None:
        result = lib.engine_add_sockets(self._engine, slot, family, fds, len(fds))
        _checked(result, f"sockets of slot {slot}")

    def adopt(self, fd: int, slot: int, direction: Direction, address: str, port: int) -> None:
        """Takes over an accepted connection whose original destination is known."""
        result = lib.engine_adopt(self._engine, fd, slot, direction, pack_address(address), port)
        _checked(result, f"connection to {address}:{port}")

    def set_policies(self, slot: int, authorization: Authorization | None) -> None:
        """Who may call a known pod; None: everybody. Open connections that may not be are ended."""
        made = ffi.NULL
        if authorization is not None:
            arrays = Arrays(authorization)
            keep = {name: ffi.new(f"{kind}[]", arrays.content[name]) for name, (kind, _) in ARRAYS.items()}
            counts = {counter: len(keep[name]) for name, (_, counter) in ARRAYS.items()}
            made = ffi.new("struct authz *", {**keep, **counts, "default_deny": arrays.default_deny})
        _checked(lib.engine_set_policies(self._engine, slot, made), f"policies of slot {slot}")

    def rulings(self) -> list[Ruling]:
        """What policies said and nobody took yet; after a RulingsReady."""
        found = ffi.new("struct engine_ruling[]", RULINGS_PER_CALL)
        count = lib.engine_rulings(self._engine, found, RULINGS_PER_CALL)
        return [_ruling(found[i]) for i in range(count)]

    def set_plan(self, plan: Plan) -> None:
        texts = {text for each in plan.endpoints for text in (each.peer, each.node)}
        kept = {text: ffi.new("char[]", text.encode()) for text in texts}
        host = ffi.new("char[]", plan.host.encode())
        endpoints = ffi.new("struct engine_endpoint[]", [_endpoint(each, kept) for each in plan.endpoints])
        value = {
            "address": pack_address(plan.address),
            "port": plan.port,
            "service": plan.service,
            "protocol": _PROTOCOLS[plan.protocol],
            "balancer": _BALANCERS[plan.balancer],
            "host": host,
            "endpoint_count": len(plan.endpoints),
            "endpoints": endpoints,
        }
        result = lib.engine_set_plan(self._engine, ffi.new("struct engine_plan *", value))
        _checked(result, f"plan for {plan.address}:{plan.port}")

    def remove_plan(self, address: str, port: int) -> None:
        lib.engine_remove_plan(self._engine, pack_address(address), port)

    def no_plan(self, connection: int) -> None:
        """The connection goes to its original destination; one that ended meanwhile is none of our business."""
        lib.engine_no_plan(self._engine, connection)

    def stock(self, slots: Iterable[int]) -> dict[tuple[int, int], int]:
        """Sockets held per {slot, family}."""
        return {(slot, family): lib.engine_stock(self._engine, slot, family) for slot in slots for family in (4, 6)}

    def live(self) -> int:
        return int(lib.engine_live(self._engine))

    def connections(self, limit: int = 1000, skip: int = 0) -> list[ConnectionInfo]:
        """Newest first."""
        found = ffi.new("struct engine_connection[]", limit)
        count = lib.engine_connections(self._engine, found, limit, skip)
        return [_connection(found[i]) for i in range(count)]

    def let_go(self, accept: bool) -> None:
        """Tells everybody to go and ends nobody; without `accept` nobody comes in from now on."""
        lib.engine_let_go(self._engine, accept)

    def oldest_seconds(self) -> float:
        """Age of the connection that was there first; 0 when there is none."""
        found = self.connections(1, live - 1) if (live := self.live()) else []
        return found[0].age_ms / 1000 if found else 0.0

    def end_idle(self, seconds: float) -> None:
        """Ends HTTP connections that are at least so old and have no request under way."""
        lib.engine_end_idle(self._engine, int(1000 * seconds))

    def drain(self) -> None:
        """Stops accepting for good and ends what is idle; `live()` says how many connections are left."""
        lib.engine_drain(self._engine)

    def close(self) -> None:
        if self._engine != ffi.NULL:
            lib.engine_free(self._engine)
            self._engine = ffi.NULL


def _event(event: Any) -> Event:
    if event.kind == lib.ENGINE_RULINGS:
        return RulingsReady()
    if event.kind == lib.ENGINE_NEED_SOCKETS:
        return NeedSockets(event.slot, event.family, event.missing)
    if event.kind == lib.ENGINE_ARRIVED:
        return Arrived(event.connection, event.reason)
    address = unpack_address(bytes(event.address))
    if event.kind == lib.ENGINE_TUNNEL_REFUSED:
        reason = ffi.string(lib.engine_tls_reason(event.reason)).decode()
        return TunnelRefused(event.slot, Direction(event.direction), address, event.port, reason)
    return NeedPlan(event.connection, event.slot, Direction(event.direction), address, event.port)


def _ruling(ruling: Any) -> Ruling:
    def text(name: str) -> str:
        return ffi.string(getattr(ruling, name)).decode("ascii", "replace")

    return Ruling(
        policy=ruling.policy,
        rule=ruling.rule,
        verdict=LAYOUT.verdicts[ruling.verdict],
        missed=ruling.missed,
        slot=ruling.slot,
        client=unpack_address(bytes(ruling.client)),
        client_port=ruling.client_port,
        port=ruling.port,
        identity=text("identity"),
        method=text("method"),
        host=text("host"),
        path=text("path"),
    )


def _endpoint(endpoint: PlanEndpoint, kept: Mapping[str, object]) -> dict[str, object]:
    return {
        "id": endpoint.id,
        "address": pack_address(endpoint.address),
        "port": endpoint.port,
        "slot": endpoint.slot,
        "peer": kept[endpoint.peer],
        "node": kept[endpoint.node],
        "weight": endpoint.weight,
    }


def _connection(c: Any) -> ConnectionInfo:
    return ConnectionInfo(
        id=c.id,
        slot=c.slot,
        direction=Direction(c.direction),
        state=_STATES[c.state],
        protocol=LAYOUT.protocols[c.protocol],
        client=unpack_address(bytes(c.client)),
        client_port=c.client_port,
        address=unpack_address(bytes(c.address)),
        port=c.port,
        service=c.service,
        endpoint=c.endpoint,
        age_ms=c.age_ms,
        request_bytes=c.request_bytes,
        response_bytes=c.response_bytes,
        sni=ffi.string(c.sni).decode("ascii", "replace"),
        identity=ffi.string(c.identity).decode("ascii", "replace"),
    )
