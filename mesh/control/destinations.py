"""What the connect hook captures: every declared port of every VIP, every pod address on any port, and the canaries.

What is not here goes direct. A VIP's backends serve only while no worker lives; without any the hook refuses, so a
Service that lost its last endpoint must stay in this table.
"""

from __future__ import annotations

from mesh.balance.ready import usable
from mesh.config import CANARY_ADDRESSES, CANARY_PORT
from mesh.control.select import addressed, virtual
from mesh.model import Destination, Snapshot


def compile_destinations(snapshot: Snapshot) -> dict[tuple[str, int], Destination]:
    """{address, port} -> destination; port 0 means any port of a pod's address."""
    found = [
        Destination(
            address=vip,
            port=port.port,
            service=True,
            backends=tuple((each.address, each.port) for each in usable(port.endpoints, vip)),
        )
        for vip, _, port in virtual(snapshot)
    ]
    found += [Destination(address=address, port=0, service=False) for address in addressed(snapshot)]
    found += [Destination(address=address, port=CANARY_PORT, service=False) for address in CANARY_ADDRESSES]
    return {(each.address, each.port): each for each in found}
