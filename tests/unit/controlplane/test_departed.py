"""What an agent said goes with its node, and not before."""

from __future__ import annotations

import asyncio

import pytest

from mesh.controlplane.departed import Departed
from mesh.controlplane.keeping import Keeping
from tests.kit.objects_api import FakeRequests, ObjectsApi

SAID = (
    "/apis/seine.dev/v1alpha1/meshnodes/node-a",
    "/apis/coordination.k8s.io/v1/namespaces/home/leases/seine-agent-node-a",
    "/api/v1/namespaces/home/configmaps/seine-record-node-a",
)


@pytest.fixture
def api():
    made = ObjectsApi()
    for path in SAID:
        made.put(path, {"metadata": {"name": path.rpartition("/")[2]}})
    return made


def look(api):
    requests = FakeRequests(api)
    asyncio.run(Departed(requests, Keeping(requests, "home"), lambda: True).look("node-a"))


def test_what_the_agent_of_a_node_that_is_gone_said_is_taken_away(api):
    look(api)
    assert api.objects == {}
    look(api)  # again, by a leader that did not see it


def test_a_list_says_goodbye_before_it_goes(api):
    api.put(SAID[0], {"metadata": {"name": "node-a"}, "spec": {"workloads": [{"uid": "1"}], "zone": "b"}})
    look(api)
    assert api.objects[SAID[0]]["spec"]["workloads"] == []
    assert set(SAID) <= api.objects.keys()
    look(api)
    assert api.objects == {}


def test_while_there_is_a_node_nothing_is_taken_away_however_silent_it_is(api):
    api.put("/api/v1/nodes/node-a", {"metadata": {"name": "node-a"}})
    look(api)
    assert set(SAID) <= api.objects.keys()


def test_a_damaged_record_keeps_nobody_from_being_taken_away(api):
    requests = FakeRequests(api)
    keeping = Keeping(requests, "home")
    api.put(SAID[2], {"metadata": {"name": "seine-record-node-a"}, "data": {"record.json": "{"}})
    asyncio.run(keeping.look_at_records())
    assert keeping.recorded() == ["node-a"]
    look(api)
    assert api.objects == {}


def test_that_it_cannot_be_known_is_told_once_and_counted(api, caplog):
    requests = FakeRequests(api)
    departed = Departed(requests, Keeping(requests, "home"), lambda: True)
    api.down = True
    for _ in range(2):
        asyncio.run(departed._attempt("node-a"))
    (told,) = (each.getMessage() for each in caplog.records)
    assert told == "whether nodes are gone cannot be known: nobody answers"
    assert departed.failures == 2
