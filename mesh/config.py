"""Settings: every one with its unit, default, bounds and reason, and the only reader of the environment.

A setting NAME of the agent may come from the environment as SEINE_NAME; the command line wins over it. Units stand
last in the names. What our own pieces must agree on (ports, canary addresses) is a constant here and no setting: the C
sources state it too, and tests compare them.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints
from urllib.parse import urlsplit

from mesh.model import Mtls, Transport

OUTBOUND_PORT = 15001  # Istio's numbers, because firewalls and operators know them
INBOUND_PORT = 15006
TUNNEL_PORT = 15008
CANARY_PORT = 15021  # Istio's readiness port
CANARY_ADDRESSES = ("240.0.0.1", "100::5e1e")  # class E and the discard prefix (RFC 6666): no host ever answers there
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
WORKERS_MAX = 32  # cells of the heartbeat array
NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")  # it becomes a directory and a cgroup name

KUBERNETES = "kubernetes"  # as a source
CONTROLLER = "controller"  # its place among the nodes' run directories
AGENT_ACCOUNT = "seine-agent"  # the service account by which the controller knows agents
AUTHORITY_AUDIENCE = "authority.seine.dev"  # of the tokens that they come with, which are of no use elsewhere
GIVEN_ROOT = "seine-root"  # the Secret of a root that somebody else makes
ROOTS_BUNDLE, ROOTS_KEY = "seine-roots", "roots.pem"  # the ConfigMap that says whom to believe, and where in it
TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")  # SPIFFE-ID 1.0, section 2.1

PREFIX = "SEINE_"  # of variables
LINK = "_SERVICE_HOST"  # ends the name of the first variable that Kubernetes makes for a Service

T = TypeVar("T")


class Switch(StrEnum):
    """As in the annotations."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class NodeRouting(StrEnum):
    """Shall routes to the pods of other nodes be ours?"""

    AUTO = "auto"
    ENABLED = "enabled"
    DISABLED = "disabled"


class ConfigError(ValueError):
    """A sentence for the operator: which setting, what it says, what it may say."""


def setting(default: Any, unit: str, why: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field that knows its unit, bounds and reason."""
    return field(default=default, metadata={"unit": unit, "why": why, "low": low, "high": high})


def _own_name() -> str:
    name = platform.node().split(".")[0].lower()
    return name if NODE_NAME.fullmatch(name) else "node"


def _is_authority(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = f"https://{parts.netloc}" in (url, url.removesuffix("/"))
        return plain and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Bounds of the directory source: what one directory may cost the agent."""

    poll_seconds: float = setting(0.25, "s", "a change counts once two polls saw it alike: 0.5 s at most", 0.01, 60)
    file_bytes_max: int = setting(8 << 20, "bytes", "16 000 pods as kubectl writes them; parsed in about 10 s", 1)
    files_max: int = setting(4096, "files", "one stat each per poll: 5 ms of every 250", 1)
    values_max: int = setting(1_000_000, "values", "per file with aliases expanded; 8 MiB of honest YAML has fewer", 1)
    depth_max: int = setting(64, "levels", "a Pod nests 12 levels; libyaml's time grows with depth squared", 1, 500)
    errors_max: int = setting(20, "sentences", "per file; a generated file repeats one mistake a thousand times", 1)


@dataclass(frozen=True, kw_only=True)
class ApiConfig:
    """Bounds of the API source."""

    settle_seconds: float = setting(
        0.05, "s", "changes that come together count together: one in a large cluster takes 10 ms of a core", 0, 10
    )
    silence_seconds: float = setting(
        150.0, "s", "a living watch has a bookmark each minute; two may be late, then it is made anew", 1, 3600
    )
    watch_seconds: int = setting(
        900, "s", "then the server ends a watch, and we go on with the next; half an hour is its own custom", 10, 86400
    )
    page_objects: int = setting(
        500, "objects", "of a list at once: client-go's; 20 MiB of full EndpointSlices", 1, 10000
    )
    page_bytes_max: int = setting(64 << 20, "bytes", "of such a page; a larger one is asked for again in halves", 1024)


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """What `seine agent` is told."""

    source: Path = setting(
        Path("/etc/seine"), "path", "directory of Kubernetes YAML, or the word kubernetes: the API server"
    )
    kubeconfig: str = setting("", "path", "how to reach the API server; empty: by the service account of our own pod")
    namespace: str = setting("seine-system", "name", "our own in the cluster, with the Leases of the nodes")
    node: str = setting("", "name", "prefix of pins, cgroup and run directory; empty: this host's own name")
    run_root: Path = setting(Path("/run/seine"), "path", "sockets and counters; gone with a reboot, like the pins")
    workers: int = setting(
        2, "processes", "two survive the death of one; more only pays on larger nodes", 1, WORKERS_MAX
    )
    external_workers: Switch = setting(
        Switch.DISABLED, "enabled or disabled", "a DaemonSet of their own lets workers outlive the agent's pod"
    )
    worker_uid: int = setting(65532, "uid", "what distroless images call nonroot; owns nothing on a host", 1, 2**31)
    admin_address: str = setting("127.0.0.1", "address", "metrics name every workload: not for the network by default")
    admin_port: int = setting(15020, "port", "where Istio users look for merged metrics; 0: any free port", 0, 65535)
    drain_seconds: float = setting(
        30.0, "s", "below Kubernetes' default grace of a pod, which is 30 s and kills", 0, 3600
    )
    max_connections: int = setting(
        0, "connections", "per worker; 0: 0.8 of what the limit of open files leaves, two for each", 0, 1 << 20
    )
    connect_timeout_seconds: float = setting(
        1.0, "s", "to one endpoint, of at most three; within a cluster an answer takes milliseconds", 0.01, 60
    )
    detect_timeout_seconds: float = setting(
        10.0, "s", "for a client's first bytes on a port declared HTTP, Linkerd's; then carried as it is", 0.01, 60
    )
    idle_timeout_seconds: float = setting(
        3600.0, "s", "of a connection without a byte, Envoy's; it frees what a vanished client held", 1, 7 * 86400
    )
    stream_idle_timeout_seconds: float = setting(
        300.0, "s", "of an HTTP exchange without a byte either way, Envoy's; more for long polls", 1, 86400
    )
    reconcile_seconds: float = setting(1.0, "s", "namespaces come and go without a word from the source", 0.05, 60)
    prove_seconds: float = setting(
        5.0, "s", "a silent leak lasts no longer; one probe costs 20 ms of a core", 0.1, 3600
    )
    shortcut: Switch = setting(
        Switch.ENABLED, "enabled or disabled", "pods ask for it themselves; off ends it for the whole node at once"
    )
    trust_domain: str = setting("cluster.local", "name", "of every SPIFFE id of the mesh; Istio's default")
    mtls: Mtls = setting(
        Mtls.PERMISSIVE, "permissive, strict or disabled", "for pods that say nothing: a mesh is entered pod by pod"
    )
    publish: str = setting(
        "", "path", "the file in which the other nodes read who is in the mesh here; empty: nobody is"
    )
    identity_dir: Path = setting(
        Path("/var/lib/seine/identity"), "path", "root key and denials; survives reboots, and nodes may share it"
    )
    authority_url: str = setting(
        "", "https://HOST[:PORT]", "a controller that issues certificates; empty: this node itself, in identity_dir"
    )
    authority_token: Path = setting(
        Path("/var/run/secrets/seine/token"), "path", "proves this node to the controller; read again each time"
    )
    authority_roots: Path = setting(
        Path("/var/run/secrets/seine/roots.pem"), "path", "prove the controller to this node; read again each time"
    )
    authority_bundle: str = setting(
        "", "name", "a ConfigMap of our namespace with such roots instead, for the API source; empty: authority_roots"
    )
    certificate_seconds: float = setting(
        86400.0, "s", "the field's 24 h: renewed after 12, so an authority may be away for half a day", 10, 7 * 86400
    )
    settle_seconds: float = setting(
        10.0, "s", "each step of a root's rotation comes so long after nothing stands in its way any more", 0.1, 3600
    )
    transport: Transport = setting(
        Transport.HBONE,
        "hbone or quic",
        "how others shall reach us; quic where the way loses packets, else it is slower",
    )
    local_tunnel: Switch = setting(
        Switch.DISABLED, "enabled or disabled", "between two pods of a node the kernel proves who they are, in memory"
    )
    node_routing: NodeRouting = setting(
        NodeRouting.AUTO, "auto, enabled or disabled", "where a CNI routes between nodes, a second hand does harm"
    )
    cni_conf: str = setting(
        "",
        "path",
        "the folder of the node's CNI configurations, as we see it; empty: pods are enrolled after their start",
    )
    cni_bin: str = setting("/opt/cni/bin", "path", "the folder of the node's CNI plugins, as we see it")
    cni_rules: Path = setting(
        Path("/var/lib/seine/cni.rules"), "path", "which namespaces' pods wait while no agent runs; survives reboots"
    )
    root_namespace: str = setting(
        "seine-system", "namespace", "whose policies are about the whole mesh; where Seine lives"
    )
    log_level: str = setting("INFO", "level", "DEBUG names every connection that asked for a plan")
    files: SourceConfig = field(default_factory=SourceConfig)
    api: ApiConfig = field(default_factory=ApiConfig)

    def __post_init__(self) -> None:
        if not self.node:
            object.__setattr__(self, "node", _own_name())
        if not NODE_NAME.fullmatch(self.node):
            raise ConfigError(f"node {self.node!r}: small letters, digits, '-' and '.', at most 63, no '-' at the ends")
        if not TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise ConfigError(f"trust_domain {self.trust_domain!r}: small letters, digits, '.', '-' and '_'")
        if self.publish and not (self.publish.startswith("/") and self.publish.endswith((".yaml", ".yml"))):
            raise ConfigError(f"publish is {self.publish!r}; it must be an absolute path that ends in .yaml")
        if self.authority_url and not _is_authority(self.authority_url):
            raise ConfigError(f"authority_url is {self.authority_url!r}; it must be https://HOST or https://HOST:PORT")
        if self.log_level not in LOG_LEVELS:
            raise ConfigError(f"log_level is {self.log_level!r}; it must be one of {', '.join(LOG_LEVELS)}")
        check_bounds(self)

    @property
    def from_api(self) -> bool:
        """Whether the source is an API server; a directory of that name is written ./kubernetes."""
        return str(self.source) == KUBERNETES

    @property
    def run_dir(self) -> Path:
        return self.run_root / self.node


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    """What `seine controller` is told. Names that both have mean the same as the agent's."""

    kubeconfig: str = setting("", "path", "how to reach the API server; empty: by the service account of our own pod")
    namespace: str = setting("seine-system", "name", "our own: agents' pods, and the objects that all this is kept in")
    service: str = setting("seine-controller", "name", "of the Service that agents reach us by; in our certificate")
    name: str = setting(
        "", "name", "of this replica, as no other is called; empty: this host's own, which is its pod's"
    )
    trust_domain: str = setting("cluster.local", "name", "of every SPIFFE id of the mesh; Istio's default")
    root_secret: str = setting(
        "", "name", "a Secret of our namespace with tls.crt, tls.key and ca.crt to sign with; empty: a root of our own"
    )
    address: str = setting("", "address", "for agents, kubelet and Prometheus; empty: every one, of both families")
    port: int = setting(15012, "port", "where Istio users know their certificate authority; HTTPS", 0, 65535)
    admin_port: int = setting(15014, "port", "likewise its metrics; also /healthz and /readyz", 0, 65535)
    run_root: Path = setting(Path("/run/seine"), "path", "a directory for the socket that operators ask")
    certificate_seconds: float = setting(
        86400.0, "s", "the field's 24 h: renewed after 12, so we may be away for half a day", 10, 7 * 86400
    )
    settle_seconds: float = setting(
        10.0, "s", "each step of a root's rotation comes so long after nothing stands in its way any more", 0.1, 3600
    )
    status_seconds: float = setting(
        30.0, "s", "between looks at policies' statuses: pods that a selector is about come and go", 0.1, 3600
    )
    root_namespace: str = setting(
        "seine-system", "namespace", "whose policies are about the whole mesh; where Seine lives"
    )
    log_level: str = setting("INFO", "level", "DEBUG says every certificate")

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", _own_name())
        if not TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise ConfigError(f"trust_domain {self.trust_domain!r}: small letters, digits, '.', '-' and '_'")
        if self.log_level not in LOG_LEVELS:
            raise ConfigError(f"log_level is {self.log_level!r}; it must be one of {', '.join(LOG_LEVELS)}")
        check_bounds(self)

    @property
    def run_dir(self) -> Path:
        return self.run_root / CONTROLLER


def in_cluster_server() -> str:
    """Where kubelet tells every pod that the API server is; "" when we are in none."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}" if host else ""


def check_bounds(settings: Any) -> None:
    """Raises ConfigError for the first setting outside its bounds."""
    for each in fields(settings):
        value, low, high = getattr(settings, each.name), each.metadata.get("low"), each.metadata.get("high")
        if (low is not None and not value >= low) or (high is not None and not value <= high):  # NaN is neither
            most = "" if high is None else f" and at most {high}"
            raise ConfigError(f"{each.name} is {value}; it must be at least {low}{most} {each.metadata['unit']}")


def strange_variables(kind: type[Any], environment: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each SEINE_* variable that is no setting of `kind`: a slip has no effect, and nobody would tell.

    In a pod some are Kubernetes' own: of a Service seine-x in our namespace come SEINE_X_SERVICE_HOST, SEINE_X_PORT ...
    """
    environment = os.environ if environment is None else environment
    known = [each.name.upper() for each in fields(kind) if "unit" in each.metadata]
    services = [name.removesuffix(LINK) for name in environment if name.endswith(LINK)]
    links = tuple(f"{service}_{what}" for service in services for what in ("SERVICE_", "PORT"))
    found = []
    for name in sorted(environment):
        ours = name.removeprefix(PREFIX)
        if ours != name and ours not in known and not name.startswith(links):
            near = get_close_matches(ours, known, 1)
            meant = f"; {PREFIX}{near[0]} is one" if near else "; `seine agent --settings` lists them"
            found.append(f"{name} is no setting and has no effect{meant}")
    return found


def from_environment(kind: type[T], environment: Mapping[str, str] | None = None, **given: Any) -> T:
    """A `kind` of settings from SEINE_* variables; `given` (the command line) wins, None in it means not given."""
    environment = os.environ if environment is None else environment
    types = get_type_hints(kind)
    chosen = {name: value for name, value in given.items() if value is not None}
    for each in fields(kind):  # type: ignore[arg-type]
        text = environment.get(f"{PREFIX}{each.name.upper()}")
        if text is None or each.name in chosen or "unit" not in each.metadata:
            continue
        try:
            chosen[each.name] = types[each.name](text)
        except ValueError:
            article = {
                int: "a whole number",
                float: "a number",
                Switch: "a switch",
                Mtls: "a mode",
                NodeRouting: "a mode",
            }.get(types[each.name], types[each.name].__name__)
            unit = each.metadata["unit"]
            raise ConfigError(f"{PREFIX}{each.name.upper()} is {text!r}; it must be {article} ({unit})") from None
    return kind(**chosen)
