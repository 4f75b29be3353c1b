"""Every way a connection or request can end badly, in one table: sentence, flag, HTTP status, close or keep.

The engine acts by the same table in C (`STATS_FLAGS` in cext/stats.h, the answers in cext/http*.c); tests compare the
two, and whoever shows a flag to people takes the sentence from here. Flags are Envoy's, because operators grep for
them. Rules: what a client did wrong closes its connection, as nobody knows where its next request would begin; what a
server did wrong keeps the client's connection as long as no byte of the answer has left. Without HTTP there is no
status to send: the client is reset, so that it does not take a cut answer for a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Flag(StrEnum):
    """In the engine's order; the number in a counter file is the position."""

    NONE = "-"
    CLIENT_RESET = "DC"
    SERVER_RESET = "UC"
    CONNECT_FAILED = "UF"
    NO_ENDPOINT = "UH"
    OVERFLOW = "UO"
    LOCAL_RESET = "LR"
    IDLE = "SI"
    CLIENT_PROTOCOL = "DPE"
    SERVER_PROTOCOL = "UPE"
    TIMEOUT = "UT"
    NO_ROUTE = "NR"
    DENIED = "UAEX"


MEANINGS: dict[Flag, str] = {
    Flag.NONE: "it ended as it should",
    Flag.CLIENT_RESET: "the client went away before the answer was complete",
    Flag.SERVER_RESET: "the server reset or closed the connection before its answer was complete",
    Flag.CONNECT_FAILED: "no endpoint could be connected to",
    Flag.NO_ENDPOINT: "the service has no usable endpoint",
    Flag.OVERFLOW: "a limit of the mesh was reached, see its counters",
    Flag.LOCAL_RESET: "the mesh closed it on command: the pod is gone, or was told to drain",
    Flag.IDLE: "nothing was sent for too long",
    Flag.CLIENT_PROTOCOL: "the client broke the protocol",
    Flag.SERVER_PROTOCOL: "the server broke the protocol",
    Flag.TIMEOUT: "the server did not answer in time",
    Flag.NO_ROUTE: "no route matched",
    Flag.DENIED: "a policy of the mesh denies it, or an identity is denied",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """`status` 0: no answer is sent. `keep`: the client's connection may carry another request."""

    flag: Flag
    status: int
    keep: bool
    sentence: str


ENDINGS: dict[str, Ending] = {
    # Any connection
    "client_reset": Ending(Flag.CLIENT_RESET, 0, False, "the client reset its connection"),
    "server_reset": Ending(Flag.SERVER_RESET, 0, False, "the server reset the connection in the middle of its answer"),
    "pod_gone": Ending(Flag.LOCAL_RESET, 0, False, "the pod left the mesh, and its connections were to go with it"),
    "idle": Ending(Flag.IDLE, 0, False, "no byte in either direction for the idle timeout"),
    "loop": Ending(Flag.LOCAL_RESET, 0, False, "it was addressed to a port of the mesh itself"),
    # Before a server was reached: nothing was sent, another request may do better
    "no_endpoint": Ending(Flag.NO_ENDPOINT, 503, True, "the service has no ready endpoint"),
    "connect_refused": Ending(Flag.CONNECT_FAILED, 503, True, "every endpoint that was tried refused the connection"),
    "connect_timeout": Ending(Flag.CONNECT_FAILED, 503, True, "no endpoint answered within the connect timeout"),
    "overload": Ending(Flag.OVERFLOW, 503, False, "a limit was reached; less load comes first, so it is closed"),
    "no_route": Ending(Flag.NO_ROUTE, 404, True, "no rule of the service's routes matches the request"),
    "authz_denied": Ending(Flag.DENIED, 403, True, "a policy of the mesh does not allow it"),
    "identity_denied": Ending(Flag.DENIED, 403, True, "an operator denied the identity of the client or of the server"),
    # What the client sent
    "ambiguous": Ending(Flag.CLIENT_PROTOCOL, 400, False, "a policy looks at its path or host, which has two readings"),
    "bad_request": Ending(Flag.CLIENT_PROTOCOL, 400, False, "the request is malformed, or could be read in two ways"),
    "bad_body": Ending(Flag.CLIENT_PROTOCOL, 400, False, "the request's body breaks its own framing"),
    "head_too_large": Ending(Flag.CLIENT_PROTOCOL, 431, False, "the request's head has too many lines or bytes"),
    "transfer_coding": Ending(Flag.CLIENT_PROTOCOL, 501, False, "a transfer coding other than chunked"),
    "version": Ending(Flag.CLIENT_PROTOCOL, 505, False, "a version of HTTP that is not understood here"),
    "head_timeout": Ending(Flag.CLIENT_PROTOCOL, 408, False, "the request's head was not complete in time"),
    # What the server answered
    "bad_response": Ending(Flag.SERVER_PROTOCOL, 502, True, "the server's answer is malformed"),
    "no_response": Ending(Flag.SERVER_RESET, 503, True, "the server closed the connection without an answer"),
    "response_timeout": Ending(Flag.TIMEOUT, 504, True, "the server did not answer within the timeout"),
}
