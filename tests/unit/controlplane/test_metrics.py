"""Nothing of the controller's own families is left out."""

from __future__ import annotations

from mesh.config import ControllerConfig
from mesh.controlplane import metrics
from mesh.controlplane.departed import Departed
from mesh.controlplane.gate import Gate
from mesh.controlplane.keeping import Keeping
from mesh.controlplane.leading import Leading
from mesh.controlplane.statuses import Statuses
from mesh.identity.authority import Trust
from mesh.identity.embedded import Embedded
from mesh.identity.server import AuthorityServer
from mesh.observe.families import Family
from tests.kit.clock import FakeClock
from tests.kit.objects_api import FakeRequests, Nowhere, ObjectsApi

HOME, DOMAIN = "seine-system", "cluster.local"


def test_every_family_is_offered_and_can_be_built() -> None:
    requests, clock = FakeRequests(ObjectsApi()), FakeClock()
    keeping = Keeping(requests, HOME)
    authority = Embedded(keeping, DOMAIN, 1000.0, 10.0, clock, clock, decides=False)
    statuses = Statuses(Nowhere(), requests, ControllerConfig(), lambda: True)
    found = metrics.offers(
        Leading(requests, HOME, "me"),
        AuthorityServer(authority, Gate(requests, HOME, DOMAIN).authorise, clock),
        statuses,
        Departed(requests, keeping, lambda: True),
        Trust(generation=3, roots=()),
    )
    built = {build(family).name for family, build in found}
    assert built == {each.plain().name for each in vars(metrics).values() if isinstance(each, Family)}
