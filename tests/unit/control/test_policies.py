import msgspec
import pytest

from mesh.control.policies import compile_policies
from mesh.model import Authorization, Pod
from tests.kit.builders import pod, policy, rule, snapshot, workload

ROOT = "seine-system"


def shop(name: str = "web", **labels: str) -> Pod:
    return pod(workload=workload(name, namespace="shop"), labels=frozenset(labels.items()))


def about(one: Pod, *policies, trust_domain: str = "cluster.local", **fields) -> Authorization:
    given = snapshot(one, policies=policies, **fields)
    return compile_policies(given, {one.workload.uid: 4}, trust_domain, ROOT).get(4, Authorization())


def names(found: Authorization) -> list[str]:
    return [each.name for each in found.policies]


def test_a_policy_is_about_its_own_namespace_and_the_root_ones_about_all():
    mine, other, root = (policy(name, "DENY", rule(), namespace=name) for name in ("shop", "bank", ROOT))
    assert names(about(shop(), mine, other, root)) == [ROOT, "shop"]


@pytest.mark.parametrize(
    ("labels", "selected"),
    [({"app": "web"}, True), ({"app": "web", "tier": "x"}, True), ({"app": "db"}, False), ({}, False)],
)
def test_a_selector_wants_all_its_labels(labels, selected):
    chosen = policy("one", "DENY", rule(), namespace="shop", selector=(("app", "web"),))
    assert bool(names(about(shop(**labels), chosen))) == selected


def test_a_selector_in_the_root_namespace_selects_pods_of_all():
    chosen = policy("one", "DENY", rule(), namespace=ROOT, selector=(("app", "web"),))
    assert names(about(shop(app="web"), chosen)) == ["one"]
    assert names(about(shop(app="db"), chosen)) == []


def test_deny_is_looked_at_before_allow_and_each_by_name():
    made = [policy(name, action, rule(), namespace="shop") for name, action in
            (("a", "AUDIT"), ("z", "DENY"), ("c", "ALLOW"), ("b", "DENY"), ("d", "ALLOW"))]  # fmt: skip
    assert names(about(shop(), *made)) == ["b", "z", "c", "d", "a"]


def test_a_pod_of_which_nothing_is_said_has_no_entry():
    one = shop()
    assert compile_policies(snapshot(one), {one.workload.uid: 4}, "a", ROOT) == {}
    assert compile_policies(snapshot(one, policies=(policy("a", "ALLOW"),)), {}, "a", ROOT) == {}


def test_a_namespace_may_deny_by_default_without_any_policy():
    assert about(shop(), default_deny=frozenset({"shop"})) == Authorization(default_deny=True)
    assert about(shop(), default_deny=frozenset({"default"})) == Authorization()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cluster.local/ns/a/sa/b", "example.org/ns/a/sa/b"),
        ("cluster.local/*", "example.org/*"),
        ("cluster.loc*", "cluster.loc*"),
        ("*cluster.local/", "*cluster.local/"),
        ("other.org/ns/a/sa/b", "other.org/ns/a/sa/b"),
        ("*", "*"),
    ],
)
def test_cluster_local_is_the_meshs_own_trust_domain(written, meant):
    made = policy("a", "ALLOW", rule(principals=[written], not_principals=[written]), namespace="shop")
    (found,) = about(shop(), made, trust_domain="example.org").policies
    (source,) = found.rules[0].sources
    assert [str(each) for each in source.principals + source.not_principals] == [meant, meant]
    assert about(shop(), made).policies == (made,)


def test_an_authorization_is_a_message_as_it_is():
    made = policy("a", "ALLOW", rule(principals=["a*"], ports=[1], ip_blocks=["10.0.0.0/8"]), namespace="shop")
    found = about(shop(), made)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Authorization) == found
