"""The real signer (cext/signer.c) in the process of the test, with the test as its agent: it serves when it is run."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from mesh.aio.channel import HEAD
from mesh.forward.signing import protocol
from mesh.forward.signing.protocol import Report, Signer
from mesh.identity import certificate
from tests.kit.pki import Certificate


class OwnSigner:
    def __init__(self) -> None:
        self.signer = Signer()
        self.fd = self.signer.fd
        self.meet()

    def meet(self) -> None:
        """An agent comes."""
        self.agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.signer.meet(theirs.detach())
        self.tell(protocol.welcome())

    def run(self) -> None:
        """Whatever there is to do now."""
        while select.select([self.fd], [], [], 0)[0]:
            self.signer.run(0)

    def tell(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        socket.send_fds(self.agent, [HEAD.pack(len(message), len(descriptors)) + message], descriptors)
        self.run()

    def know(self, known: Certificate) -> None:
        self.tell(protocol.add(certificate.secret(known.ours)))

    def forget(self, known: Certificate) -> None:
        self.tell(protocol.forget(certificate.key_name(known.ours)))

    def open(self) -> socket.socket:
        """Where somebody may ask."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.tell(protocol.serve(), [theirs.fileno()])
        return ours

    def report(self) -> Report:
        """Of this moment."""
        self.signer.run(0)
        last = None
        while select.select([self.agent], [], [], 0)[0]:
            last = self.agent.recv(4096)
        found = protocol.read_report((last or b"")[HEAD.size :])
        assert found is not None
        return found

    def close(self) -> None:
        self.agent.close()
        self.signer.close()
