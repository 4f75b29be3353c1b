"""The tables about pods: slots, pods, port_rules, homes, listeners and counters, written from a model.Pod.

Order matters, because hooks read while we write: a slot's rules and settings are complete before its namespace is
entered in `slots`, and the namespace is taken out first.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address

from mesh.capture._bpf import ffi, lib
from mesh.capture.objects import KernelError, Map, MapFull, index, number, pack, pack_address, unpack, words
from mesh.model import Direction, FailMode, Mtls, Pod

PodCounters = Mapping[str, int]  # reason -> count

REASONS: dict[int, str] = {
    value: name.removeprefix("REASON_").lower() for name, value in ffi.typeof("enum reason").relements.items()
}


class Pods:
    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._slots, self._pods, self._rules = maps["slots"], maps["pods"], maps["port_rules"]
        self._homes = maps["homes"]
        self._addresses: dict[int, set[bytes]] = {}  # netns cookie -> its keys in `homes`
        for key, cookie in self._homes.items():
            self._addresses.setdefault(number(cookie), set()).add(key)
        self._listeners, self._counters = maps["listeners"], maps["counters"]

    def slots(self) -> dict[int, int]:
        return {number(slot): number(cookie) for cookie, slot in self._slots.items()}

    def write(self, slot: int, pod: Pod, cookie: int) -> None:
        """All but the entry in `slots`, which makes the connect hook see the pod."""
        if not 0 <= slot < lib.PODS_MAX:
            raise KernelError(f"no slot {slot}: a node has at most {lib.PODS_MAX} enrolled pods")
        other = self._slots.read(cookie.to_bytes(8, "little"))
        if other is not None and number(other) != slot:
            raise KernelError(f"the namespace of {pod.workload.name} is already enrolled as slot {number(other)}")
        if unpack("pod", self._pods.read(index(slot)) or b"").netns != cookie:  # another pod's counts, not ours
            self._counters.write(index(slot), bytes(self._counters.value_size))
        self._write_rules(slot, pod)
        self._write_homes(pod.workload.addresses if pod.shortcut else (), cookie)
        self._pods.write(index(slot), pack_pod(pod, cookie))

    def publish(self, slot: int, cookie: int) -> None:
        for old, at in self.slots().items():
            if old == slot and at != cookie:
                self._slots.remove(at.to_bytes(8, "little"))
        self._slots.write(cookie.to_bytes(8, "little"), index(slot))

    def hide(self, slot: int) -> None:
        for at, cookie in self.slots().items():
            if at == slot:
                self._slots.remove(cookie.to_bytes(8, "little"))

    def erase(self, slot: int) -> None:
        for direction in Direction:
            self._listeners.remove(index(slot * 2 + direction))
        for key in self._rule_keys(slot):
            self._rules.remove(key)
        self._write_homes((), int(unpack("pod", self._pods.read(index(slot)) or b"").netns))
        self._pods.write(index(slot), pack("pod"))

    def set_listener(self, slot: int, direction: Direction, fd: int) -> None:
        self._listeners.write(index(slot * 2 + direction), fd.to_bytes(8, "little"))

    def has_listener(self, slot: int, direction: Direction) -> bool:
        return self._listeners.read(index(slot * 2 + direction)) is not None

    def counters(self) -> dict[int, PodCounters]:
        return {slot: summed(self._counters, slot) for slot in self.slots()}

    def _rule_keys(self, slot: int) -> set[bytes]:
        return {key for key in self._rules.all_keys() if unpack("port_rule", key).slot == slot}

    def _write_homes(self, addresses: tuple[str, ...], cookie: int) -> None:
        """An address that has no room is merely not short-cut. What another pod has taken over by now is its."""
        wanted, value = {pack_address(address, 0) for address in addresses}, cookie.to_bytes(8, "little")
        for key in self._addresses.pop(cookie, set()) - wanted:
            if self._homes.read(key) == value:
                self._homes.remove(key)
        for key in wanted:
            with suppress(MapFull):
                self._homes.write(key, value)
        if wanted:
            self._addresses[cookie] = wanted

    def _write_rules(self, slot: int, pod: Pod) -> None:
        ports = {Direction.OUTBOUND: pod.skip_outbound_ports, Direction.INBOUND: pod.skip_inbound_ports}
        wanted = {
            pack("port_rule", slot=slot, port=port, direction=direction)
            for direction in Direction
            for port in ports[direction]
        }
        have = self._rule_keys(slot)
        for key in wanted - have:
            self._rules.write(key, b"\1")
        for key in have - wanted:
            self._rules.remove(key)


def pack_pod(pod: Pod, cookie: int) -> bytes:
    """struct pod; the first address of each family is the one that sockets are bound to."""
    flags = lib.POD_ENROLLED
    flags |= lib.POD_CLOSED if pod.fail_mode is FailMode.CLOSED else 0
    flags |= lib.POD_SHORTCUT if pod.shortcut else 0
    flags |= lib.POD_STRICT if pod.mtls is Mtls.STRICT else 0
    ip4 = next((address for address in pod.workload.addresses if ip_address(address).version == 4), "")
    ip6 = next((address for address in pod.workload.addresses if ip_address(address).version == 6), "")
    flags |= (lib.POD_IP4 if ip4 else 0) | (lib.POD_IP6 if ip6 else 0)
    return pack("pod", netns=cookie, flags=flags, ip4=words(ip4)[3] if ip4 else 0, ip6=words(ip6 or "::"))


def summed(counters: Map, slot: int) -> PodCounters:
    """One slot's counters over all CPUs, by the names of enum reason."""
    raw = counters.read(index(slot)) or b""
    cpus = [unpack("counters", raw[at : at + counters.width]) for at in range(0, len(raw), counters.width)]
    return {name: sum(int(cpu.count[reason]) for cpu in cpus) for reason, name in REASONS.items()}
