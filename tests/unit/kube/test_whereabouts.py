"""Who has an address, while CNI and the API server do not say the same yet."""

from __future__ import annotations

from mesh.kube import whereabouts
from mesh.kube.parse import PodFacts
from mesh.kube.settings import Settings
from mesh.kube.whereabouts import Whereabouts
from tests.kit.builders import workload


def facts(name: str, *addresses: str, **fields: object) -> PodFacts:
    made = workload(name, **fields)
    made = type(made)(**{each: getattr(made, each) for each in made.__struct_fields__} | {"addresses": addresses})
    return PodFacts(workload=made, settings=Settings(), netns="", cgroup="", weight=None)


def having(found: PodFacts) -> tuple[str, ...]:
    return found.workload.addresses


def test_what_nobody_contests_is_what_the_api_server_says():
    known = Whereabouts()
    told = facts("a", "10.0.0.1")
    assert known.tell(told) is told


def test_a_pod_that_is_being_started_has_the_addresses_that_cni_gave_it():
    known = Whereabouts()
    assert having(known.tell(facts("a"))) == ()
    (now,) = known.say("uid-a", ("10.0.0.1", "fd00::1"))
    assert having(now) == ("10.0.0.1", "fd00::1")
    assert having(known.tell(facts("a"))) == ("10.0.0.1", "fd00::1"), "its object changes, still without addresses"
    assert having(known.tell(facts("a", "10.0.0.1", "fd00::1"))) == ("10.0.0.1", "fd00::1")


def test_cni_may_speak_before_the_api_server():
    known = Whereabouts()
    assert known.say("uid-a", ("10.0.0.1",)) == []
    assert having(known.tell(facts("a"))) == ("10.0.0.1",)


def test_an_address_belongs_to_the_pod_that_got_it_last():
    known = Whereabouts()
    known.tell(facts("old", "10.0.0.1"))
    known.tell(facts("new"))
    changed = {each.workload.name: having(each) for each in known.say("uid-new", ("10.0.0.1",))}
    assert changed == {"old": (), "new": ("10.0.0.1",)}
    assert having(known.tell(facts("old", "10.0.0.1"))) == (), "its object is still there, and still says so"


def test_of_two_pods_that_cni_named_the_later_has_it():
    known = Whereabouts()
    known.tell(facts("one"))
    known.tell(facts("two"))
    known.say("uid-one", ("10.0.0.1",))
    changed = {each.workload.name: having(each) for each in known.say("uid-two", ("10.0.0.1",))}
    assert changed == {"one": (), "two": ("10.0.0.1",)}


def test_a_new_sandbox_of_the_same_pod_has_new_addresses_before_its_object_says_so():
    known = Whereabouts()
    known.tell(facts("a", "10.0.0.1"))
    known.say("uid-a", ("10.0.0.2",))
    assert having(known.tell(facts("a", "10.0.0.1"))) == ("10.0.0.2",)
    assert having(known.tell(facts("a", "10.0.0.2"))) == ("10.0.0.2",)


def test_what_cni_said_without_us_is_heard_from_the_api_server():
    known = Whereabouts()
    known.tell(facts("a"))
    known.say("uid-a", ("10.0.0.1",))
    assert having(known.tell(facts("a", "10.0.0.9"))) == ("10.0.0.9",)
    assert having(known.tell(facts("b", "10.0.0.1"))) == ("10.0.0.1",), "and nobody is kept from the first"


def test_a_pod_that_is_gone_claims_nothing():
    known = Whereabouts()
    known.tell(facts("a"))
    known.say("uid-a", ("10.0.0.1",))
    known.forget("uid-a")
    assert having(known.tell(facts("b", "10.0.0.1"))) == ("10.0.0.1",)


def test_host_network_pods_share_an_address_with_anybody():
    known = Whereabouts()
    known.say("uid-a", ("10.0.0.1",))
    assert having(known.tell(facts("host", "10.0.0.1", host_network=True))) == ("10.0.0.1",)


def test_who_never_had_an_object_is_forgotten(monkeypatch):
    monkeypatch.setattr(whereabouts, "SAID_MAX", 2)
    known = Whereabouts()
    for number in range(5):
        known.say(f"uid-{number}", (f"10.0.0.{number}",))
    assert having(known.tell(facts("2", "10.0.0.9", uid="uid-2"))) == ("10.0.0.9",)
    assert having(known.tell(facts("other", "10.0.0.1"))) == ("10.0.0.1",)
    assert having(known.tell(facts("4", uid="uid-4"))) == ("10.0.0.4",)
