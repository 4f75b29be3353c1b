"""All facts -> Snapshot: who belongs to whom, and who comes too late.

An object's identity, addresses, a node's network of pods, and a network namespace belong to one object each. The first
claimant has them, and whoever had them in the snapshot before stays first; a later one is left out whole, with a
sentence that names both places. Pure: the same facts and the same earlier winners give the same snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import structs

from mesh.kube.host import HostFacts
from mesh.kube.listings import Known, Said, Seats, settle
from mesh.kube.mesh_node import MeshNodeFacts
from mesh.kube.parse import EndpointFacts, Facts, NamespaceFacts, PodFacts, ServiceFacts, SliceFacts
from mesh.kube.policy import PolicyFacts
from mesh.kube.settings import Settings
from mesh.model import Endpoint, FailMode, MeshNode, Mtls, Pod, Service, Snapshot, Value, Workload


class Placed(Value):
    """Facts and where they were read."""

    file: str
    line: int  # 0: not of a file
    facts: Facts

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def seat(self) -> tuple[str, str]:
        """What tells it from others that claim the same, over edits that move lines."""
        return (self.file, self.facts.title)


def assemble(
    found: Iterable[Placed], node: str = "", before: Seats = frozenset(), mtls: Mtls = Mtls.PERMISSIVE
) -> tuple[Snapshot, Seats]:
    """The snapshot and the seats of those who are in it, to be handed in as `before` the next time.

    `node`: pods that name another node in spec.nodeName are not local; empty means every pod with a netns is. What a
    MeshNode of this name says is what we said ourselves. `mtls`: of pods that say nothing, nor their Namespace.
    """
    admitted, errors = admit(sorted(found, key=lambda each: each.seat not in before))
    facts = [each.facts for each in admitted]
    namespaces = {each.name: each.settings for each in facts if isinstance(each, NamespaceFacts)}
    zones = {each.host.name: each.host.zone for each in facts if isinstance(each, HostFacts)}
    policies = sorted((each for each in facts if isinstance(each, PolicyFacts)), key=lambda each: each.title)
    selected = frozenset(label for each in policies for label in each.policy.selector)
    pods = sorted((_zoned(each, zones) for each in facts if isinstance(each, PodFacts)), key=lambda each: each.title)
    services = sorted((each for each in facts if isinstance(each, ServiceFacts)), key=lambda each: each.title)
    slices = [each for each in admitted if isinstance(each.facts, SliceFacts)]
    by_service, warnings = match_slices(slices, services)
    local = tuple(_local_pods(pods, namespaces, node, mtls, selected))
    said = [Said(each.place, each.facts.node) for each in admitted if isinstance(each.facts, MeshNodeFacts)]
    known = Known((each.service for each in services), (each.workload for each in pods), local)
    nodes, losses, listed = settle([each for each in said if not node or each.node.name != node], known, before)
    resolve = Resolver(pods, nodes)
    snapshot = Snapshot(
        services=tuple(populate(each.service, by_service[each.title], resolve) for each in services),
        workloads=tuple(each.workload for each in pods),
        pods=local,
        nodes=tuple(nodes),
        hosts=tuple(sorted((each.host for each in facts if isinstance(each, HostFacts)), key=lambda host: host.name)),
        policies=tuple(each.policy for each in policies),
        default_deny=frozenset(each.name for each in facts if isinstance(each, NamespaceFacts) and each.default_deny),
        ending=frozenset(each.name for each in facts if isinstance(each, NamespaceFacts) and each.ending),
        closed=frozenset(name for name, settings in namespaces.items() if _closed(settings, mtls)),
        errors=tuple(errors + losses),
        warnings=tuple(warnings),
    )
    return snapshot, frozenset(each.seat for each in admitted) | listed


def _closed(settings: Settings, mtls: Mtls) -> bool:
    strict = (settings.mtls or mtls) is Mtls.STRICT
    return settings.mesh is True and (settings.fail is FailMode.CLOSED or strict)


def _zoned(pod: PodFacts, zones: Mapping[str, str]) -> PodFacts:
    """With its node's zone, where it says none itself."""
    zone = pod.workload.zone or zones.get(pod.workload.node, "")
    return pod if zone == pod.workload.zone else structs.replace(pod, workload=structs.replace(pod.workload, zone=zone))


def claims(facts: Facts) -> Iterator[tuple[str, str]]:
    """What belongs to nobody else, and how a sentence calls it."""
    yield facts.title, "name"
    match facts:
        case PodFacts(workload=workload, netns=netns):
            yield f"uid {workload.uid}", f"uid {workload.uid}"
            if not workload.host_network:
                yield from ((address, f"address {address}") for address in workload.addresses)
            if netns and not workload.host_network:
                yield f"netns {netns}", f"network namespace {netns}"
        case ServiceFacts(service=service):
            yield from ((address, f"address {address}") for address in service.vips)
        case HostFacts(host=host):
            yield from ((address, f"address {address}") for address in host.addresses)
            yield from ((cidr, f"podCIDR {cidr}") for cidr in host.pod_cidrs)


def admit(found: Sequence[Placed]) -> tuple[list[Placed], list[str]]:
    """Those that claim nothing taken, in order, and a sentence per other."""
    owners: dict[str, Placed] = {}
    admitted, errors = [], []
    for each in found:
        wanted = list(claims(each.facts))
        taken = [(owners[key], call) for key, call in wanted if key in owners]
        if not taken:
            owners.update((key, each) for key, _ in wanted)
            admitted.append(each)
            continue
        owner, call = taken[0]
        if owner.facts.title == each.facts.title:
            reason = f"is already defined at {owner.place}"
        else:
            reason = f"has the {call} of {owner.facts.title} at {owner.place}"
        errors.append(f"{each.place}: {each.facts.title} {reason}; this one is left out")
    return admitted, errors


def match_slices(
    slices: Sequence[Placed], services: Sequence[ServiceFacts]
) -> tuple[dict[str, list[SliceFacts]], list[str]]:
    """Slices by title of their Service, and a sentence for each that reaches nobody by what looks like a slip."""
    known = {each.title: each.service for each in services}
    matched: dict[str, list[SliceFacts]] = defaultdict(list)
    warnings = []
    for placed in slices:
        facts = placed.facts
        assert isinstance(facts, SliceFacts)
        title = f"Service {facts.namespace}/{facts.service}"
        matched[title].append(facts)
        if not facts.service:
            warnings.append(
                f"{placed.place}: {facts.title} has no label kubernetes.io/service-name, so no Service uses it"
            )
        elif title in known:
            names = {port.name for port in known[title].ports}
            warnings += [
                f"{placed.place}: {facts.title} has port {port} named {name!r}, a name that {title} does not have"
                for name, port in facts.ports
                if name not in names
            ]
    return matched, warnings


class Resolver:
    """Which workload an endpoint is, by uid, else by name, else by address."""

    def __init__(self, pods: Iterable[PodFacts], nodes: Iterable[MeshNode]) -> None:
        self._pods: dict[str, PodFacts] = {}  # by uid
        self._by_name: dict[tuple[str, str], str] = {}
        self._by_address: dict[str, str] = {}
        for pod in pods:
            self._pods[pod.workload.uid] = pod
            self._add(pod.workload)
        for workload in (each for node in nodes for each in node.workloads):
            self._add(workload)

    def _add(self, workload: Workload) -> None:
        self._by_name.setdefault((workload.namespace, workload.name), workload.uid)
        for address in () if workload.host_network else workload.addresses:
            self._by_address.setdefault(address, workload.uid)

    def __call__(self, endpoint: EndpointFacts) -> tuple[str, PodFacts | None]:
        """Its uid ("" for no pod at all) and its pod if we know it. A uid that is not known is a pod yet to be seen."""
        named = self._by_name.get(endpoint.pod, "") if endpoint.pod else self._by_address.get(endpoint.address, "")
        uid = endpoint.uid or named
        return uid, self._pods.get(uid)


def populate(service: Service, slices: Sequence[SliceFacts], resolve: Resolver) -> Service:
    ports = (structs.replace(port, endpoints=tuple(_endpoints(port.name, slices, resolve))) for port in service.ports)
    return structs.replace(service, ports=tuple(ports))


def _endpoints(name: str, slices: Sequence[SliceFacts], resolve: Resolver) -> list[Endpoint]:
    """The endpoints of one named port, sorted; each once, though slices may overlap while they are rewritten."""
    found: dict[tuple[str, int], tuple[EndpointFacts, SliceFacts]] = {}
    for piece in slices:
        for port in (number for each, number in piece.ports if each == name):
            for each in piece.endpoints:
                key = (each.address, port)
                if key not in found or (each.ready and not found[key][0].ready):
                    found[key] = (each, piece)
    endpoints = []
    for (address, port), (each, piece) in found.items():
        uid, pod = resolve(each)
        weight = (pod.weight if pod else None) or piece.weight or 1
        endpoints.append(
            Endpoint(
                address=address,
                port=port,
                workload_uid=uid,
                ready=each.ready,
                last_resort=each.last_resort,
                weight=weight,
                zone=each.zone,
            )
        )
    return sorted(endpoints, key=lambda each: (":" in each.address, each.address, each.port))


def _local_pods(
    pods: Iterable[PodFacts],
    namespaces: dict[str, Settings],
    node: str,
    mtls: Mtls,
    selected: frozenset[tuple[str, str]],
) -> Iterator[Pod]:
    for each in pods:
        workload, settings = each.workload, each.settings.over(namespaces.get(each.workload.namespace, Settings()))
        if node and workload.node and workload.node != node:
            continue
        asked = settings.mesh is True
        found = bool(node) and workload.node == node and bool(workload.addresses)  # by its uid, once it was started
        refused = _refusal(workload, each.netns) if asked else ""
        if not each.netns and not refused and not (found and asked):
            continue
        yield Pod(
            workload=workload,
            netns=each.netns,
            cgroup=each.cgroup,
            enrolled=asked and not refused,
            fail_mode=settings.fail or FailMode.OPEN,
            mtls=settings.mtls or mtls,
            shortcut=settings.shortcut is True,
            skip_inbound_ports=settings.skip_inbound_ports or frozenset(),
            skip_outbound_ports=settings.skip_outbound_ports or frozenset(),
            opaque_ports=settings.opaque_ports or frozenset(),
            labels=each.labels & selected,
            refused=refused,
        )


def _refusal(workload: Workload, netns: str) -> str:
    """Why a pod that asks for the mesh cannot have it; "" if it can, or if it is another node's."""
    if workload.host_network:
        return (
            "it has hostNetwork: its network namespace is the node's, and every process there would be captured with it"
        )
    if not netns:
        return "" if workload.node else "nothing says where it is: neither seine.dev/netns nor spec.nodeName"
    if not workload.addresses:
        return "it has no address (status.podIP)"
    return ""
