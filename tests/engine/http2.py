"""The other end of a tunnel, by Python's ssl and the h2 package: independent of our own code, and free to misbehave."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import h2.config
import h2.connection
import h2.events

from tests.engine.rig import Reset, Rig
from tests.kit.pki import Certificate

T = TypeVar("T")
E = TypeVar("E", bound=h2.events.Event)


def context(
    server: bool, own: Certificate | None, root: Certificate, alpn: tuple[str, ...] = ("h2",)
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.set_ciphers("ALL:@SECLEVEL=0")  # it may show what others would not
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=root.der)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if own:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(own.pem())
            made.load_cert_chain(file.name)
    return made


def fields(headers: Iterable[tuple[bytes, bytes]] | None) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers or ()}


class Secured:
    """TLS over a connected socket, driven while the rig pumps; nothing blocks."""

    def __init__(self, rig: Rig, sock: socket.socket, tls: ssl.SSLContext, server: bool = False) -> None:
        sock.setblocking(False)
        rig.sockets.append(sock)
        self.rig, self.sock = rig, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self.incoming, self.outgoing, server_side=server)
        self.ended = False

    def _move(self) -> None:
        while out := self.outgoing.read():
            self.sock.setblocking(True)
            self.sock.sendall(out)
            self.sock.setblocking(False)
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError as error:
            raise Reset from error
        if data:
            self.incoming.write(data)
        else:
            self.ended = True
            self.incoming.write_eof()

    def _try(self, what: Callable[[], T]) -> list[T]:
        try:
            return [what()]
        except ssl.SSLWantReadError:
            return []
        finally:
            self._move()

    def handshake(self) -> None:
        """Raises ssl.SSLError with the alert that the other end sent, or Reset."""
        self.rig.until(lambda: self._try(self.tls.do_handshake))

    def send(self, data: bytes) -> None:
        self._try(lambda: self.tls.write(data))

    def take(self) -> bytes:
        """What has come by now; empty: nothing yet, or `ended`."""
        self._move()
        if self.ended and not self.incoming.pending:
            return b""
        try:
            return self.tls.read(1 << 16)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLZeroReturnError:
            self.ended = True
            return b""


class Http2:
    """An HTTP/2 end on top; events are kept in the order of their arrival."""

    def __init__(self, secured: Secured, client: bool) -> None:
        self.secured, self.rig = secured, secured.rig
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client))
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.secured.send(data)

    def poll(self) -> None:
        if data := self.secured.take():
            for event in self.h2.receive_data(data):
                self.events.append(event)
                if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.flush()

    def wait(self, kind: type[E], stream: int | None = None) -> E:
        """The first event of that kind (and stream), which is taken out."""
        found: list[E] = []

        def came() -> bool:
            self.poll()
            for event in self.events:
                if isinstance(event, kind) and (stream is None or getattr(event, "stream_id", None) == stream):
                    self.events.remove(event)
                    found.append(event)
                    return True
            return False

        self.rig.until(came)
        return found[0]

    def request(self, fields: list[tuple[str, str]], end: bool = False) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush()
        return stream

    def status(self, stream: int) -> str:
        """Of the response, once it is there."""
        return fields(self.wait(h2.events.ResponseReceived, stream).headers)[":status"]

    def data(self, stream: int) -> bytes:
        return self.wait(h2.events.DataReceived, stream).data or b""
