"""The mesh as people use it: installed by what `seine install` prints, a namespace taken in by a label."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.identity import certificate
from mesh.install import Values, objects
from tests.cluster.cluster import Cluster
from tests.cluster.mesh import HOME, ROOT, agent_of, captured, install, run, seine, status, uninstall
from tests.cluster.test_cluster import WEB, fetch
from tests.kit.wait import eventually

DOMAIN = "cluster.local"
CAPTURED_SECONDS = 30.0  # a new pod is looked for once a second, and proven within five


@pytest.fixture(scope="module")
def mesh(loaded: Cluster) -> Iterator[Cluster]:
    install(loaded)
    yield loaded
    uninstall(loaded)
    loaded.kubectl("delete", "--ignore-not-found", "-f", str(ROOT / "deploy/crds"))


def test_a_labelled_namespace_is_in_the_mesh_on_every_node_and_nothing_was_restarted(mesh, namespace):
    mesh.apply(WEB.replace("NAMESPACE", namespace))
    mesh.wait_rollout("deployment/web", namespace)
    pods = {pod["metadata"]["name"]: pod for pod in mesh.pods(namespace)}
    mesh.apply(seine("enroll", namespace))
    eventually(lambda: captured(mesh, namespace) == set(pods), "all pods to be captured", CAPTURED_SECONDS)
    before = carried(mesh, namespace)
    service = mesh.api.get(f"/api/v1/namespaces/{namespace}/services/web")["spec"]["clusterIPs"][0]
    answers = {fetch(mesh, namespace, f"http://{service}:8080/") for _ in range(20)}
    assert answers <= set(pods)
    assert len(answers) > 1
    assert carried(mesh, namespace) >= before + 20
    now = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0] for pod in mesh.pods(namespace)}
    assert now.keys() == pods.keys()
    assert all(container["restartCount"] == 0 for container in now.values())
    mesh.apply(seine("unenroll", namespace))
    eventually(lambda: not captured(mesh, namespace), "no pod to be captured", CAPTURED_SECONDS)
    assert fetch(mesh, namespace, f"http://{service}:8080/") in pods


def test_the_api_server_takes_what_kustomize_makes(mesh):
    mesh.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", str(ROOT / "deploy/base"))


def carried(cluster: Cluster, namespace: str) -> int:
    """Connections of the namespace's pods that went through workers."""
    pods = (pod for node in cluster.nodes for pod in status(cluster, node)["pods"])
    return sum(pod["captured"] for pod in pods if pod["namespace"] == namespace)


def identities(cluster: Cluster, node: str) -> dict[str, Any]:
    command = ["seine", "identity", "-o", "json"]
    return dict(json.loads(cluster.exec(agent_of(cluster, node), *command, namespace=HOME)))


def tunnelled(cluster: Cluster, namespace: str) -> int:
    """Requests of the namespace's pods that a node received by mutual TLS."""
    found = 0
    for node in cluster.nodes:
        text = cluster.exec(agent_of(cluster, node), "seine", "metrics", namespace=HOME)
        for line in text.splitlines():
            wanted = ('reporter="destination"', 'connection_security_policy="mutual_tls"', f'namespace="{namespace}"')
            if line.startswith("istio_requests_total{") and all(each in line for each in wanted):
                found += int(float(line.rpartition(" ")[2]))
    return found


def test_nodes_have_certificates_from_the_clusters_authority_and_mutual_tls_between_them(mesh, namespace):
    mesh.apply(WEB.replace("NAMESPACE", namespace))
    mesh.apply(seine("enroll", namespace))
    mesh.wait_rollout("deployment/web", namespace)
    pods = mesh.pods(namespace)
    names = {pod["metadata"]["name"] for pod in pods}
    eventually(lambda: captured(mesh, namespace) == names, "all pods to be captured", CAPTURED_SECONDS)
    name = f"spiffe://cluster.local/ns/{namespace}/sa/default"
    bundle = mesh.api.get(f"/api/v1/namespaces/{HOME}/configmaps/seine-roots")["data"]["roots.pem"]
    for node in mesh.nodes:
        found = identities(mesh, node)
        assert found["authority"] == "https://seine-controller.seine-system.svc:15012"
        (held,) = (each for each in found["certificates"] if each["name"] == name)
        _, facts = certificate.read_leaf(list(map(certificate.der, held["chain"])), [certificate.der(bundle)], DOMAIN)
        assert (facts.name, facts.root) == (name, held["root"])
    far = next(pod for pod in pods if pod["spec"]["nodeName"] != pods[0]["spec"]["nodeName"])
    before = tunnelled(mesh, namespace)
    url = f"http://{far['status']['podIP']}/"
    for _ in range(5):
        assert fetch(mesh, namespace, url) == far["metadata"]["name"]
    eventually(lambda: tunnelled(mesh, namespace) >= before + 5, "the requests to be counted", CAPTURED_SECONDS)


def test_a_namespace_that_is_labelled_while_the_controller_is_away_has_tunnels_when_it_is_back(mesh, namespace):
    mesh.kubectl("scale", "-n", HOME, "deployment/seine-controller", "--replicas=0")
    mesh.kubectl("wait", "-n", HOME, "pod", "-l", "app.kubernetes.io/name=seine-controller", "--for=delete")
    mesh.apply(WEB.replace("NAMESPACE", namespace))
    mesh.apply(seine("enroll", namespace))
    mesh.wait_rollout("deployment/web", namespace)
    names = {pod["metadata"]["name"] for pod in mesh.pods(namespace)}
    eventually(lambda: captured(mesh, namespace) == names, "all pods to be captured", CAPTURED_SECONDS)
    pods = [pod for node in mesh.nodes for pod in status(mesh, node)["pods"] if pod["namespace"] == namespace]
    assert {pod["identity"] for pod in pods} == {""}
    service = mesh.api.get(f"/api/v1/namespaces/{namespace}/services/web")["spec"]["clusterIPs"][0]
    assert {fetch(mesh, namespace, f"http://{service}:8080/") for _ in range(10)} <= names, "permissive goes on"
    mesh.kubectl("scale", "-n", HOME, "deployment/seine-controller", "--replicas=2")
    mesh.wait_rollout("deployment/seine-controller", HOME)

    def known() -> bool:
        found = [pod for node in mesh.nodes for pod in status(mesh, node)["pods"] if pod["namespace"] == namespace]
        return all(pod["identity"] for pod in found)

    eventually(known, "their identities", 60)


def test_workers_have_no_privilege_and_outlive_the_agents_pod(mesh):
    node = next(iter(mesh.nodes))
    before = [worker["pid"] for worker in status(mesh, node)["workers"]]
    pod = agent_of(mesh, node)
    mesh.kubectl("delete", "pod", "-n", HOME, pod, "--wait=true")
    mesh.wait_rollout("daemonset/seine-agent", HOME)
    assert agent_of(mesh, node) != pod
    assert [worker["pid"] for worker in status(mesh, node)["workers"]] == before
    worker = next(
        each for each in mesh.pods(HOME, "app.kubernetes.io/name=seine-worker") if each["spec"]["nodeName"] == node
    )
    lines = mesh.exec(
        worker["metadata"]["name"], "grep", "-E", "^(Uid|CapEff|CapBnd|Seccomp):", "/proc/1/status", namespace=HOME
    )
    facts = dict(line.split(":") for line in lines.splitlines())
    assert facts["Uid"].split() == ["65532"] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert facts["Seccomp"].strip() == "2"


SECRETS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: careless, namespace: seine-system}
data: {DB_PASSWORD: "hunter2hunter2", note: "Authorization: Bearer c2VjcmV0LXRva2VuLW9mLW1pbmU"}
"""


def test_a_host_network_pod_hears_by_an_event_why_it_is_refused_and_others_that_they_are_in(mesh, namespace):
    mesh.apply(WEB.replace("NAMESPACE", namespace))
    host = WEB.partition("---")[0].replace("name: web,", "name: host,").replace("app: web", "app: host")
    host = host.replace("NAMESPACE", namespace).replace(
        "spec:\n      termin", "spec:\n      hostNetwork: true\n      termin"
    )
    mesh.apply(host.replace("replicas: 4", "replicas: 1").replace("-p 80", "-p 8088").replace("port: 80", "port: 8088"))
    mesh.apply(seine("enroll", namespace))

    def told() -> dict[str, str]:
        events = mesh.api.items(f"/api/v1/namespaces/{namespace}/events?fieldSelector=reportingComponent%3Dseine-agent")
        return {
            each["involvedObject"]["name"].partition("-")[0]: f"{each['reason']}: {each['message']}" for each in events
        }

    eventually(lambda: told().keys() >= {"web", "host"}, "the Events", CAPTURED_SECONDS)
    assert told()["web"].startswith("Enrolled: ")
    assert re.match("Refused: .*hostNetwork", told()["host"])
    columns = mesh.kubectl("get", "meshnodes")
    assert columns.splitlines()[0].split() == ["NAME", "ZONE", "TRANSPORT", "AGE"]
    assert {line.split()[0] for line in columns.splitlines()[1:]} == set(mesh.nodes)


def test_check_finds_the_installation_good_and_says_what_is_not(mesh):
    def good() -> str:
        return run("check", "--cluster", "-o", "json", cluster=mesh).stdout

    eventually(lambda: "warning" not in good(), "the Events of other tests to go with their namespaces", 60)
    assert json.loads(good())["success"], good()
    mesh.kubectl("delete", "networkpolicy", "seine-worker", "-n", HOME)
    bad = run("check", "--cluster", cluster=mesh)
    assert "NetworkPolicy seine-worker: it is not there" in bad.stdout
    planned = run("upgrade", cluster=mesh)
    assert planned.stderr.strip() == "NetworkPolicy seine-worker: new"
    mesh.apply(planned.stdout)


def test_a_bug_report_has_everything_but_secrets(mesh, tmp_path: Path):
    mesh.apply(SECRETS)
    token = mesh.kubectl("create", "token", "seine-agent", "-n", HOME).strip()
    mesh.kubectl("annotate", "-n", HOME, "configmap/careless", f"note={token}")
    out = tmp_path / "report.tar.gz"
    done = run("bug-report", "--cluster", "--out", str(out), cluster=mesh)
    assert done.returncode == 0, done.stderr
    with tarfile.open(out) as archive:
        texts = {each.name: archive.extractfile(each).read().decode() for each in archive.getmembers()}  # type: ignore[union-attr]
    agents = [name for name in texts if name.endswith("/status.json")]
    assert len(agents) == len(mesh.nodes), texts.get("seine-bug-report/errors.txt")
    assert all("captured by eBPF" in text or '"pods"' in text for name, text in texts.items() if name in agents)
    assert any(name.endswith("/log.txt") for name in texts)
    for secret in (token, "hunter2hunter2", "c2VjcmV0LXRva2VuLW9mLW1pbmU", "PRIVATE KEY"):
        assert [name for name, text in texts.items() if secret in text] == []
    mesh.kubectl("delete", "-n", HOME, "configmap/careless")


def test_our_accounts_may_do_what_they_do_and_nothing_else(mesh):
    """By the audit log of all that this file's tests had them do, hence the last one."""
    eventually(lambda: agents(asked(mesh)) >= agents(granted()), "the agents to use every right", CAPTURED_SECONDS)
    assert agents(asked(mesh)) == agents(granted())
    assert asked(mesh) - agents(asked(mesh)) <= granted()
    assert [event["requestURI"] for event in ours(mesh) if code(event) == 403] == []


def ours(cluster: Cluster) -> list[dict[str, Any]]:
    events = map(json.loads, cluster.control.audit_log.read_text().splitlines())
    return [each for each in events if each["user"]["username"].startswith(f"system:serviceaccount:{HOME}:")]


def code(event: dict[str, Any]) -> int:
    return int(event.get("responseStatus", {}).get("code", 0))


Right = tuple[str, str, str]  # account, verb, resource


def agents(rights: set[Right]) -> set[Right]:
    """Those of the others: what the controller uses of its rights is for test_controller.py to see."""
    return {each for each in rights if each[0] != "seine-controller"}


def asked(cluster: Cluster) -> set[Right]:
    """What our accounts asked for. A watch that stands is in the log from its beginning; all may ask who they are."""
    everybody = ("selfsubjectaccessreviews", "selfsubjectreviews")
    found = {
        (event["user"]["username"].rpartition(":")[2], event["verb"], resource(event["objectRef"]))
        for event in ours(cluster)
        if event.get("objectRef", {}).get("resource") not in (None, *everybody)
    }
    return {(who, verb, what) for who, verb, what in found if verb != "list" or (who, "watch", what) not in found}


def resource(reference: dict[str, Any]) -> str:
    inner = reference.get("subresource")
    return f"{reference['resource']}/{inner}" if inner else str(reference["resource"])


def granted() -> set[Right]:
    """`create` beside `patch` is not asked for, since applying what is not there yet is a patch that needs it; nor is
    `list` beside `watch`, where the server streams lists, as this one does and older ones do not."""
    covered = {"create": "patch", "list": "watch"}
    made = objects(Values())
    rules = {(each["kind"], each["metadata"]["name"]): each["rules"] for each in made if "rules" in each}
    found = set()
    for binding in (each for each in made if "roleRef" in each):
        for rule in rules[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
            verbs = [verb for verb in rule["verbs"] if covered.get(verb) not in rule["verbs"]]
            found |= {
                (who["name"], verb, each) for who in binding["subjects"] for verb in verbs for each in rule["resources"]
            }
    return found
