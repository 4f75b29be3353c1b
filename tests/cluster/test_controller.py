"""The controller at a real API server: real tokens, the node rule, rights, leadership, rotations, statuses."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from mesh.config import AUTHORITY_AUDIENCE
from mesh.controlplane.departed import Departed
from mesh.controlplane.keeping import Keeping
from mesh.identity import certificate, issue
from mesh.identity.authority import AuthorityError, Hanging, Record, RootState, Trust
from mesh.identity.remote import Remote
from mesh.kube.api.access import Kubeconfig
from mesh.kube.api.requests import Requests
from tests.cluster.mesh_home import HOME, MeshHome, Replica, pod
from tests.kit.wait import eventually

WEB, DB = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/db"
POLICY = {"apiVersion": "seine.dev/v1alpha1", "kind": "AuthorizationPolicy"}
LISTED = {"uid": "1", "namespace": "shop", "name": "w", "addresses": ["10.1.1.1"], "serviceAccount": "web"}
POLICIES = "/apis/seine.dev/v1alpha1/namespaces/shop/authorizationpolicies"


@pytest.fixture(scope="module")
def home() -> Iterator[MeshHome]:
    with MeshHome() as up:
        up.create(pod("web-1", "shop", "web", "node-a", app="web"), pod("db-1", "shop", "db", "node-b"))
        yield up


@pytest.fixture(scope="module")
def replica(home: MeshHome) -> Iterator[Replica]:
    started = home.start("one")
    home.leader([started])
    yield started
    started.process.stop()


def ask(remote: Remote, name: str = WEB, request: bytes | None = None) -> tuple[bytes, ...]:
    made = issue.make_request(issue.new_key(), name) if request is None else request
    return asyncio.run(remote.sign(made, name))


def trust(remote: Remote, record: Record | None = None) -> Trust:
    return asyncio.run(remote.trust(record or Record(node="node-a")))


def refused(replica: Replica, reason: str, work: Callable[[], object]) -> str:
    """The sentence; and that it was counted under that reason."""
    line = f'seine_controller_refused_total{{reason="{reason}"}}'
    before = replica.metric(line)
    with pytest.raises(AuthorityError) as caught:
        work()
    assert replica.metric(line) == before + 1, str(caught.value)
    return str(caught.value)


def test_an_agent_gets_certificates_for_the_pods_of_its_node(home: MeshHome, replica: Replica) -> None:
    remote = home.agents_remote(replica, "node-a")
    roots = [root.certificate for root in trust(remote).roots]
    chain = ask(remote)
    _, facts = certificate.read_leaf(chain, roots, "cluster.local")
    assert facts.name == WEB


def test_and_for_no_others(home: MeshHome, replica: Replica) -> None:
    remote = home.agents_remote(replica, "node-a")
    assert "no pod on node node-a runs as shop/db" in refused(replica, "workload", lambda: ask(remote, DB))
    foreign = "spiffe://other.org/ns/shop/sa/web"
    assert "of the trust domain other.org" in refused(replica, "refused", lambda: ask(remote, foreign))
    request = issue.make_request(issue.new_key(), DB)
    assert "the request is for" in refused(replica, "refused", lambda: ask(remote, WEB, request))
    large = request + bytes(5000)
    assert "bytes" in refused(replica, "large", lambda: ask(remote, WEB, large))


def test_a_token_of_another_node_is_of_no_use(home: MeshHome, replica: Replica) -> None:
    token = home.token("seine-agent", home.agent("node-b"), AUTHORITY_AUDIENCE)
    remote = home.remote(replica, "node-a", token)
    assert "an agent on node node-b, not on node-a" in refused(replica, "node", lambda: ask(remote))
    own = Record(node="node-a")
    assert "node-b, not on node-a" in refused(replica, "node", lambda: trust(remote, own))


@pytest.mark.parametrize("audience", ["", "https://elsewhere"])
def test_a_token_for_another_audience_is_of_no_use(home: MeshHome, replica: Replica, audience: str) -> None:
    """The API server's own among them, which every pod has."""
    remote = home.remote(replica, "node-a", home.token("seine-agent", home.agent("node-a"), audience))
    refused(replica, "audience", lambda: ask(remote))


def test_a_token_of_an_application_is_of_no_use(home: MeshHome, replica: Replica) -> None:
    web = home.api.get("/api/v1/namespaces/shop/pods/web-1")
    remote = home.remote(replica, "node-a", home.token("web", web, AUTHORITY_AUDIENCE, "shop"))
    assert "is that of system:serviceaccount:shop:web" in refused(replica, "account", lambda: ask(remote))


def test_a_token_that_no_pod_has_is_of_no_use(home: MeshHome, replica: Replica) -> None:
    remote = home.remote(replica, "node-a", home.token("seine-agent", None, AUTHORITY_AUDIENCE))
    assert "does not say its pod-name" in refused(replica, "token", lambda: ask(remote))


def test_a_forged_token_is_of_no_use(home: MeshHome, replica: Replica) -> None:
    token = home.token("seine-agent", home.agent("node-a"), AUTHORITY_AUDIENCE)
    remote = home.remote(replica, "node-a", token[:-8] + "AAAAAAAA")
    refused(replica, "token", lambda: ask(remote))


def test_a_deleted_agents_token_ends_with_its_pod_although_the_server_still_takes_it(home: MeshHome, replica: Replica):
    agent = home.agent("node-a")
    remote = home.remote(replica, "node-a", home.token("seine-agent", agent, AUTHORITY_AUDIENCE))
    assert ask(remote)
    home.api.delete(f"/api/v1/namespaces/{HOME}/pods/{agent['metadata']['name']}", grace_seconds=0)
    with pytest.raises(AuthorityError, match=r"is gone, and its token with it|the token is not good"):
        ask(remote)


def works(work: Callable[[], object]) -> bool:
    try:
        work()
    except AuthorityError:
        return False
    return True


# --- statuses


def conditions(home: MeshHome, name: str) -> dict[str, dict[str, Any]]:
    found = home.api.get(f"{POLICIES}/{name}")
    said = found.get("status", {}).get("conditions", [])
    current = [each for each in said if each["observedGeneration"] == found["metadata"]["generation"]]
    return {each["type"]: each for each in current}


def test_policies_say_whether_agents_take_them_and_whether_there_are_such_pods(
    home: MeshHome, replica: Replica
) -> None:
    def policy(name: str, app: str, **annotations: str) -> dict[str, Any]:
        spec = {"selector": {"matchLabels": {"app": app}}}
        return POLICY | {"metadata": {"name": name, "namespace": "shop", "annotations": annotations}, "spec": spec}

    maybe = {"seine.dev/dry-run": "maybe"}  # no schema judges annotations
    home.create(policy("good", "web"), policy("nobody", "wbe"), policy("bad", "web", **maybe))
    names = ("good", "nobody", "bad")
    eventually(lambda: all(conditions(home, name) for name in names), "statuses", 20)
    good, nobody, wrong = (conditions(home, name) for name in names)
    assert (good["Accepted"]["status"], good["ResolvedRefs"]["status"]) == ("True", "True")
    assert nobody["ResolvedRefs"]["reason"] == "NoPodSelected"
    assert (wrong["Accepted"]["status"], wrong["Accepted"]["reason"]) == ("False", "Invalid")
    home.api.merge(f"{POLICIES}/nobody", {"spec": {"selector": {"matchLabels": {"app": "web"}}}})
    eventually(
        lambda: conditions(home, "nobody").get("ResolvedRefs", {}).get("status") == "True",
        "the change to be judged",
        20,
    )


# --- nodes that go


def test_what_an_agent_said_goes_with_its_node(home: MeshHome, replica: Replica) -> None:
    """Looked at once by hand, as the leader does in turn, with the controller's own rights."""
    home.create({"kind": "Node", "metadata": {"name": "node-c"}})
    trust(home.agents_remote(replica, "node-c"), Record(node="node-c"))
    home.create({**POLICY, "kind": "MeshNode", "metadata": {"name": "node-c"}, "spec": {"workloads": [LISTED]}})
    home.create({"kind": "Lease", "metadata": {"name": "seine-agent-node-c", "namespace": HOME}})

    async def look() -> None:
        requests = Requests(Kubeconfig(str(home.kubeconfig("seine-controller"))), "test")
        await Departed(requests, Keeping(requests, HOME), lambda: True).look("node-c")
        requests.close()

    asyncio.run(look())
    assert said_of(home, "node-c") == 3, "the node is there"
    home.api.delete("/api/v1/nodes/node-c")
    asyncio.run(look())
    assert home.api.get("/apis/seine.dev/v1alpha1/meshnodes/node-c")["spec"]["workloads"] == []
    asyncio.run(look())
    assert said_of(home, "node-c") == 0


def said_of(home: MeshHome, node: str) -> int:
    places = (
        f"/apis/seine.dev/v1alpha1/meshnodes/{node}",
        f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/seine-agent-{node}",
        f"/api/v1/namespaces/{HOME}/configmaps/seine-record-{node}",
    )
    return sum(home.exists(place) for place in places)


# --- leadership and rotation


class Node:
    """What an agent tells and hears, in short: it believes what it is told, and renews at once."""

    def __init__(self, home: MeshHome, name: str, identity: str) -> None:
        self._home, self.name, self.identity = home, name, identity
        self.token = home.token("seine-agent", home.agent(name), AUTHORITY_AUDIENCE)
        self.trust: Trust | None = None
        self.facts: certificate.Facts | None = None

    def turn(self, replica: Replica) -> Trust:
        return asyncio.run(self._turn(self._home.remote(replica, self.name, self.token)))

    async def _turn(self, remote: Remote) -> Trust:
        self.trust = await remote.trust(self._record())
        if self.facts is None or self.facts.root != self.trust.issuing:
            chain = await remote.sign(issue.make_request(issue.new_key(), self.identity), self.identity)
            roots = [root.certificate for root in self.trust.roots]
            _, self.facts = certificate.read_leaf(chain, roots, "cluster.local")
        self.trust = await remote.trust(self._record())
        return self.trust

    def _record(self) -> Record:
        if self.trust is None:
            return Record(node=self.name)
        leafs = (Hanging(root=self.facts.root, count=1, until=self.facts.not_after),) if self.facts else ()
        trusts = tuple(root.id for root in self.trust.roots)
        return Record(node=self.name, generation=self.trust.generation, trusts=trusts, leafs=leafs)


def states(home: MeshHome) -> list[str]:
    secret = home.api.get(f"/api/v1/namespaces/{HOME}/secrets/seine-authority")
    return [root["state"] for root in json.loads(base64.b64decode(secret["data"]["authority.json"]))["roots"]]


def is_at(home: MeshHome, state: str) -> bool:
    return state in states(home)


@pytest.mark.timeout(300)  # three terms of dead leaders
def test_leaders_killed_at_every_step_of_a_rotation_lose_nothing(home: MeshHome, replica: Replica) -> None:
    """With the replica of all tests before, which ends here like the others; each kill is SIGKILL."""
    replicas = [replica, home.start("two"), home.start("three")]
    nodes = [Node(home, "node-a", WEB), Node(home, "node-b", DB)]
    for node in nodes:
        node.turn(replica)
    old = nodes[0].trust.issuing if nodes[0].trust else ""
    leader = home.leader(replicas)
    socket = f"{home.directory}/{leader.name}/controller/admin.sock"
    asyncio.run(rotate(socket))
    for state, wanted in (("joining", "leaving"), ("leaving", "issuing")):
        eventually(partial(is_at, home, state), state, 30)
        leader = home.leader(replicas)
        leader.process.send(signal.SIGKILL)
        leader.process.wait(5)
        replicas.remove(leader)
        replicas.append(home.start(f"after-{state}"))
        assert is_at(home, state), "nobody moves while somebody has not heard"
        successor = home.leader(replicas)
        eventually(partial(move, nodes, successor, home, wanted), f"the step to {wanted}", 30)
    assert states(home) == ["issuing"]
    for node in nodes:
        last = node.turn(replicas[0])
        assert [root.state for root in last.roots] == [RootState.ISSUING]
        assert last.issuing != old
        assert node.facts is not None
        assert node.facts.root == last.issuing
    for each in replicas:
        each.process.stop()


def move(nodes: list[Node], replica: Replica, home: MeshHome, wanted: str) -> bool:
    for node in nodes:
        if not works(partial(node.turn, replica)):
            return False
    found = states(home)
    return wanted in found if wanted == "leaving" else found == [wanted]


async def rotate(path: str) -> None:
    """As `seine identity rotate` asks."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"POST /identity/rotate HTTP/1.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), answer


# --- rights


def test_nothing_that_the_controller_or_an_agent_did_was_forbidden_and_nothing_granted_is_idle(home: MeshHome) -> None:
    """After all tests that make our accounts do something: it reads what that was."""
    prefix = f"system:serviceaccount:{HOME}:"
    events = [json.loads(line) for line in home.control.audit_log.read_text().splitlines()]
    ours = [each for each in events if each["user"]["username"].startswith(prefix)]
    assert ours
    assert [each["requestURI"] for each in ours if each["responseStatus"]["code"] == 403] == []
    used = {(each["verb"], each["objectRef"]["resource"]) for each in ours if "objectRef" in each}
    granted = {
        (verb, resource.partition("/")[0])
        for kind, place in (("clusterroles", ""), ("roles", f"namespaces/{HOME}/"))
        for rule in home.api.get(f"/apis/rbac.authorization.k8s.io/v1/{place}{kind}/seine-controller")["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
    streamed = ("list", "authorizationpolicies")  # for servers that do not stream lists
    applied = ("create", "configmaps")  # asked for where an apply makes its object, and logged as the patch that it is
    assert granted - used <= {streamed, applied}


def test_the_controllers_account_may_not_read_other_secrets(home: MeshHome) -> None:
    home.api.create(f"/api/v1/namespaces/{HOME}/secrets", {"metadata": {"name": "other"}})
    review = {
        "kind": "SubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {
            "user": f"system:serviceaccount:{HOME}:seine-controller",
            "resourceAttributes": {"namespace": HOME, "verb": "get", "resource": "secrets", "name": "other"},
        },
    }
    said = home.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert not said["status"]["allowed"]


# --- a server that is away


def test_while_the_api_server_is_away_nobody_gets_a_certificate_and_all_else_goes_on(home: MeshHome) -> None:
    """The very last: a server that has just started forbids everybody everything for a moment."""
    replica = home.start("last")
    home.leader([replica])
    remote = home.agents_remote(replica, "node-a")
    ask(remote)
    home.control.stop_server()
    try:
        with pytest.raises(AuthorityError, match="who asks cannot be known"):
            ask(remote)
        assert replica.metric('seine_controller_refused_total{reason="unavailable"}') == 1
        assert replica.ready()
        eventually(lambda: not replica.leads(), "it to step down", 20)
    finally:
        home.control.start_again()
    eventually(lambda: works(lambda: ask(remote)), "certificates again", 30)
    home.leader([replica])
