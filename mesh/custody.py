"""What operators may see of, and do with, an authority whose root is ours: the agent's own, or the controller's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from mesh.identity import certificate
from mesh.identity.authority import AuthorityError, Denial, Root
from mesh.identity.embedded import Embedded, Outlook
from mesh.observe import status
from mesh.observe.identity_admin import Refused


class Custody:
    def __init__(self, authority: Embedded) -> None:
        self._authority = authority

    def outlook(self) -> status.Rotation:
        with _refusing():
            return _rotation(self._authority.outlook())

    async def rotate(self) -> status.Rotation:
        with _refusing():
            return _rotation(await self._authority.rotate())

    async def deny(self, what: str, seconds: float, reason: str) -> status.DenialStatus:
        with _refusing():
            return _denial(await self._authority.deny(what, seconds, reason))

    async def allow(self, what: str) -> bool:
        with _refusing():
            return await self._authority.allow(what)


def roots(found: Iterable[Root], chains: bool) -> tuple[status.RootStatus, ...]:
    """`chains`: with the certificates themselves."""
    return tuple(
        status.RootStatus(
            id=root.id,
            state=root.state,
            not_after=root.not_after,
            certificate=certificate.pem(root.certificate) if chains else "",
        )
        for root in found
    )


def denials(found: Iterable[Denial]) -> tuple[status.DenialStatus, ...]:
    return tuple(map(_denial, found))


def _denial(made: Denial) -> status.DenialStatus:
    return status.DenialStatus(what=made.what, until=made.until, reason=made.reason)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except AuthorityError as error:
        raise Refused(str(error)) from None


def _rotation(outlook: Outlook) -> status.Rotation:
    nodes = (
        status.RotatedNode(
            node=node.node,
            obstacle=node.obstacle,
            certificates=node.certificates,
            until=node.until,
            heard_at=node.written_at,
        )
        for node in outlook.nodes
    )
    return status.Rotation(step=outlook.step, sentence=outlook.sentence, nodes=tuple(nodes))
