"""Which endpoints of a service port may be chosen.

The bias is to serve: where nothing is ready, what is still serving while it ends takes the traffic, as kube-proxy does
(KEP-1669), because a refusal is certain and its failure is not.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.model import Endpoint


def is_ipv6(address: str) -> bool:
    return ":" in address


def usable(endpoints: Iterable[Endpoint], vip: str) -> tuple[Endpoint, ...]:
    """Those of the VIP's family that are ready, else those that serve their end: a connection keeps its family."""
    family = [each for each in endpoints if is_ipv6(each.address) == is_ipv6(vip) and each.weight > 0]
    return tuple(each for each in family if each.ready) or tuple(each for each in family if each.last_resort)
