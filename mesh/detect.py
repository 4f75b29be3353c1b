"""What a port declares to speak: `appProtocol` first, then Istio's habit of naming ports `protocol[-suffix]`.

Bias: a known name is believed, an unknown one means DETECT, never a refusal: at worst we look at the first bytes. There
is no list of well-known port numbers on purpose: detection does not stall on a server that speaks first, so it needs
none.
Sources: Kubernetes KEP-3726 (kubernetes.io/*), Istio's protocol selection, Linkerd's linkerd.io/opaque.
"""

from __future__ import annotations

from mesh.model import Protocol

_NAMES: dict[Protocol, str] = {
    Protocol.HTTP: "http http1 http/1.1 grpc-web kubernetes.io/ws ws",
    Protocol.HTTP2: "http2 h2c grpc kubernetes.io/h2c",
    Protocol.TLS: "https tls h2 wss kubernetes.io/wss",
    Protocol.OPAQUE: (
        "tcp linkerd.io/opaque linkerd.io/tcp mysql mariadb postgres postgresql redis mongo mongodb memcached kafka "
        "amqp nats smtp imap pop3 ftp ssh ldap cassandra zookeeper mqtt"
    ),
}
PROTOCOLS = {name: protocol for protocol, names in _NAMES.items() for name in names.split()}


def declared(app_protocol: str | None, port_name: str | None) -> Protocol:
    """An unknown appProtocol means DETECT whatever the port's name is: its author meant to override."""
    if app_protocol:
        return PROTOCOLS.get(app_protocol.lower(), Protocol.DETECT)
    name = (port_name or "").lower()
    if name == "grpc-web" or name.startswith("grpc-web-"):
        return Protocol.HTTP
    return PROTOCOLS.get(name.split("-", 1)[0], Protocol.DETECT)
