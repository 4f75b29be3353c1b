"""Policies between real programs: who may call whom, by identity, address and path; and what a change of them does."""

import json
from dataclasses import dataclass

import pytest

from tests.kit import apps
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests, Port
from tests.kit.seine import Mesh
from tests.kit.talk import ask
from tests.kit.wait import eventually

CLIENT, OTHER = "cluster.local/ns/default/sa/client", "cluster.local/ns/default/sa/other"
TALK, DATABASE = 7000, 5432


@dataclass
class Town:
    lab: Lab
    mesh: Mesh
    manifests: Manifests
    client: Pod
    other: Pod
    outside: Pod  # not in the mesh
    server: Pod
    nginx: apps.Nginx
    vip: str

    def get(self, pod: Pod, path: str = "/", *options: str) -> int:
        """The status; by the Service, of which only pods of the mesh know."""
        address = self.server.ip if pod is self.outside else self.vip
        return apps.curl(pod, f"http://{address}{path}", "--path-as-is", *options).status

    def wait_status(self, pod: Pod, status: int, path: str = "/") -> None:
        eventually(lambda: self.get(pod, path) == status, f"{pod} to get {status} for {path}")
        self.mesh.heard()  # the other worker too

    def verdicts(self, policy: str, verdict: str) -> float:
        return self.mesh.metrics().value("seine_authz_total", policy=policy, verdict=verdict)


@pytest.fixture(scope="module")
def streets():
    with Lab("authz") as lab:
        client, other, outside, server = (lab.pod(name) for name in ("client", "other", "outside", "server"))
        nginx = apps.Nginx(server)
        (nginx.files / "secret").write_text("secret\n")
        apps.Talk(server)
        apps.Postgres(server)
        manifests = Manifests(lab.directory / "source", lab).namespace()
        manifests.pod(client, service_account="client").pod(other, service_account="other").pod(outside, enrolled=False)
        manifests.pod(server, service_account="server", labels={"tier": "back"})
        vip, _ = manifests.service("web", Port(80, app_protocol="http"), TALK, DATABASE, backends=[server])
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, other, server)
            mesh.wait_service("web")
            yield Town(lab, mesh, manifests, client, other, outside, server, nginx, vip)


@pytest.fixture
def town(streets):
    yield streets
    for path in streets.manifests.directory.glob("policy-*"):
        path.unlink()
    streets.manifests.namespace()
    eventually(lambda: not any(each["name"] for each in streets.mesh.status()["policies"]), "no policy to be left")
    for pod in (streets.client, streets.other, streets.outside):
        streets.wait_status(pod, 200)


def allow(*principals):
    return {"rules": [{"from": [{"source": {"principals": list(principals)}}]}]}


def deny(**operation):
    return {"action": "DENY", "rules": [{"to": [{"operation": operation}]}]}


# --- who


@pytest.mark.parametrize("way", ["service", "pod"])
def test_only_the_identity_that_is_allowed_reaches_the_application(town, way):
    town.manifests.policy("one", allow(CLIENT))
    town.wait_status(town.other, 403)
    logged = len(town.nginx.requests())
    address = town.vip if way == "service" else town.server.ip
    got, refused = (apps.curl(pod, f"http://{address}/", "-i") for pod in (town.client, town.other))
    assert (got.status, got.body.splitlines()[-1]) == (200, "server")
    assert refused.status == 403
    assert "x-seine-reason: authz_denied" in refused.body
    eventually(lambda: len(town.nginx.requests()) == logged + 1, "the allowed request to be logged")
    assert town.nginx.requests()[-1]["peer"] == town.client.ip


def test_what_is_denied_is_counted_and_told(town):
    town.manifests.policy("one", allow(CLIENT))
    town.wait_status(town.other, 403)
    assert town.get(town.client) == 200
    assert town.verdicts("one", "allowed") >= 1
    assert town.mesh.metrics().value("seine_authz_total", policy="", verdict="denied") >= 1
    denied = {"source_workload": "other", "http_response_status_code": "403", "response_flags": "UAEX"}
    assert town.mesh.metrics().value("seine_requests_total", **denied) >= 1
    told = [line for line in town.mesh.log().splitlines() if '"verdict":"denied"' in line]
    line = json.loads(told[0])
    assert (line["client"], line["identity"], line["request"]) == (town.other.ip, f"spiffe://{OTHER}", "GET /")
    assert "default/other" in line["msg"]
    assert "-> default/server:80 GET /" in line["msg"]


def test_who_comes_from_outside_is_known_by_his_address_alone(town):
    town.manifests.policy("proven", allow("*"))
    town.wait_status(town.outside, 403)
    assert town.get(town.client) == 200
    source = {"ipBlocks": [f"{town.outside.ip}/32"]}
    town.manifests.policy("outside", {"rules": [{"from": [{"source": source}]}]})
    town.wait_status(town.outside, 200)
    town.manifests.policy("not-him", {"action": "DENY", "rules": [{"from": [{"source": source}]}]})
    town.wait_status(town.outside, 403)
    assert town.get(town.client) == 200


def test_a_database_is_reached_by_those_who_may(town):
    town.manifests.policy("one", allow(CLIENT))
    town.wait_status(town.other, 403)
    assert apps.psql(town.client, town.vip, DATABASE, "select 1") == "1"
    with pytest.raises(ConnectionError):
        apps.psql(town.other, town.vip, DATABASE, "select 1")


def test_a_policy_is_about_the_pods_that_it_selects(town):
    town.manifests.policy("front", {"selector": {"matchLabels": {"tier": "front"}}})
    town.manifests.policy("back", {"selector": {"matchLabels": {"tier": "back"}}, **deny(paths=["/x"])})
    town.wait_status(town.client, 403, "/x")
    assert town.get(town.client) == 200


def test_a_policy_of_the_root_namespace_is_about_the_whole_mesh(town):
    town.manifests.policy("all", deny(methods=["GET"]), namespace="seine-system")
    town.wait_status(town.client, 403)


def test_a_namespace_that_denies_by_default_lets_in_only_whom_a_policy_allows(town):
    town.manifests.namespace("default", None, **{"seine.dev/authz-default": "deny"})
    town.wait_status(town.client, 403)
    town.manifests.policy("one", allow(CLIENT))
    town.wait_status(town.client, 200)
    assert town.get(town.other) == 403


# --- what


SPELLINGS = {
    "/files/secret": 403,
    "//files/secret": 403,
    "/files//secret": 403,
    "/./files/./secret": 403,
    "/x/../files/secret": 403,
    "/%66iles/%73ecret": 403,
    "/files/%2e%2e/files/secret": 403,
    "/files/secret?a=1": 403,
    "/files%2fsecret": 400,
    "/files%5csecret": 400,
    "/x/..;/files/secret": 400,
    "/files/secret%00": 400,
    "/files/other": 404,
    "/": 200,
}


def test_no_spelling_of_a_path_gets_around_a_policy(town):
    assert town.get(town.client, "//files/secret") == 200
    town.manifests.policy("secret", deny(paths=["/files/secret*"]))
    town.wait_status(town.client, 403, "/files/secret")
    logged = len(town.nginx.requests())
    found = {path: town.get(town.client, path) for path in SPELLINGS}
    assert found == SPELLINGS
    eventually(lambda: len(town.nginx.requests()) >= logged + 2, "what was let through to be logged")
    assert {each["status"] for each in town.nginx.requests()[logged:]} <= {200, 404}


def test_the_application_sees_the_spelling_that_was_judged(town):
    town.manifests.policy("secret", deny(paths=["/files/secret*"]))
    town.wait_status(town.client, 403, "/files/secret")
    assert town.get(town.client, "/a/.././%61?b=/../c") in (200, 404)
    eventually(lambda: "GET /a?b=/../c " in town.nginx.requests()[-1]["request"], "the normal form to be logged")


# --- policies change


def test_a_changed_policy_ends_the_connections_that_it_denies_and_no_others(town):
    with town.client.connect(town.vip, TALK) as mine, town.other.connect(town.vip, TALK) as theirs:
        assert ask(mine, "who")
        assert ask(theirs, "who")
        town.manifests.policy("one", allow(CLIENT))
        theirs.settimeout(10)
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
        assert ask(mine, "who")
    assert town.mesh.metrics().value("seine_engine_policy_ended_total") >= 1
    with pytest.raises(ConnectionResetError), town.other.connect(town.vip, TALK) as again:
        again.recv(1)


def test_a_dry_run_is_counted_and_told_and_denies_nobody(town):
    town.manifests.policy("dry", deny(paths=["/*"]), dry_run=True)
    eventually(lambda: town.get(town.client) == 200 and town.verdicts("dry", "would_deny"), "the dry run to be counted")
    assert town.verdicts("dry", "denied") == 0
    assert '"verdict":"would_deny"' in town.mesh.log()
    town.manifests.policy("dry", deny(paths=["/*"]))
    town.wait_status(town.client, 403)


def test_a_policy_with_a_fault_is_refused_and_the_last_good_one_stays(town):
    town.manifests.policy("one", deny(methods=["PUT"]))
    eventually(lambda: town.get(town.client, "/", "-X", "PUT") == 403, "PUT to be denied")
    town.manifests.policy("one", {"action": "DENY", "rules": [{"when": [{"key": "x", "values": ["y"]}]}]})
    eventually(
        lambda: any("spec.rules[0].when" in each for each in town.mesh.status()["source"]["errors"]), "the fault"
    )
    assert town.get(town.client, "/", "-X", "PUT") == 403


# --- failures


def test_no_request_slips_through_while_workers_and_agent_are_replaced(town):
    town.manifests.policy("one", allow(CLIENT))
    town.wait_status(town.other, 403)
    logged = [each for each in town.nginx.requests() if each["peer"] == town.other.ip]
    for number, pid in town.mesh.worker_pids().items():
        town.mesh.kill_worker(number)
        for _ in range(10):
            assert town.get(town.other) in (403, 0)
        town.mesh.wait_replaced(number, pid)
    town.mesh.kill_agent()
    assert town.get(town.other) == 403
    town.mesh.heal()
    town.wait_status(town.client, 200)
    assert town.get(town.other) == 403
    assert [each for each in town.nginx.requests() if each["peer"] == town.other.ip] == logged


# --- explained


def test_seine_authz_says_what_curl_sees(town):
    town.manifests.policy("secret", deny(paths=["/files/secret*"])).policy("one", allow(CLIENT))
    town.wait_status(town.client, 403, "/files/secret")
    for words, status in (
        (("--from", "default/client", "--path", "//files/secret"), 403),
        (("--from", "default/client", "--path", "/"), 200),
        (("--from", "default/other", "--path", "/"), 403),
        (("--from", town.outside.ip, "--path", "/"), 403),
    ):
        said = town.mesh.seine("authz", "server", "--port", "80", *words)
        pod = {"default/client": town.client, "default/other": town.other}.get(words[1], town.outside)
        assert (said.returncode == 0, town.get(pod, words[-1])) == (status == 200, status), said.stdout
    assert (
        "denied by DENY default/secret, rule 0"
        in town.mesh.seine("authz", "server", *("--path", "/files/secret")).stdout
    )


def test_seine_authz_knows_what_is_decided_before_any_policy_is_asked(town):
    """By strict, and by ports that are left alone: said and seen."""
    town.manifests.policy("nobody", allow("cluster.local/ns/default/sa/nobody"))
    strict = {"seine.dev/mtls": "strict", "config.seine.dev/skip-inbound-ports": "7000"}
    town.manifests.pod(town.server, service_account="server", labels={"tier": "back"}, annotations=strict)
    try:
        eventually(lambda: town.mesh.pod(town.server)["mtls"] == "strict", "the pod to be strict")
        with town.outside.connect(town.server.ip, 7000) as sock:
            assert ask(sock, "echo hello") == "hello"
        said = town.mesh.seine("authz", "server", "--port", "7000", "--from", town.outside.ip)
        assert (said.returncode, "port 7000 is not captured" in said.stdout) == (0, True)
        with pytest.raises((ConnectionError, EOFError)), town.outside.connect(town.server.ip, 5432) as sock:
            ask(sock, "echo hello")
        said = town.mesh.seine("authz", "server", "--port", "5432", "--from", town.outside.ip)
        assert (said.returncode, "mutual TLS only" in said.stdout) == (1, True)
    finally:
        town.manifests.pod(town.server, service_account="server", labels={"tier": "back"})
        eventually(lambda: town.mesh.pod(town.server)["mtls"] == "permissive", "the pod to be permissive again")
