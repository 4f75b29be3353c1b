"""Certificates of a node's pods: one per service account, renewed, kept while the authority is broken, never with a key
on disk. Certificates live 20 s here, so they are renewed after 8 to 12."""

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.cli import client as cli
from tests.kit import apps, authority, leftovers, spawn
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

LIFE_S = 20
WEB, DB = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("web", "db"))
# As PEM, and what DER of a P-256 key begins with: PKCS #8 and SEC 1; each also in base64, as PEM has it.
KEY_SIGNS = [
    b"PRIVATE KEY",
    b"\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
    b"\x30\x77\x02\x01\x01\x04\x20",
]
KEY_SIGNS += [base64.b64encode(KEY_SIGNS[2] + b"\0")[:9], b"MIGHAgEAMBMGByqGSM49"]


@dataclass
class Town:
    lab: Lab
    manifests: Manifests
    mesh: Mesh
    web: Pod
    db: Pod
    state: Path


@pytest.fixture(scope="module")
def town():
    with Lab("identity") as lab:
        web, more, db, plain = (lab.pod(name) for name in ("web", "more", "db", "plain"))
        manifests = Manifests(lab.directory / "source", lab)
        manifests.pod(web, service_account="web").pod(more, service_account="web").pod(db, service_account="db")
        manifests.pod(plain, service_account="plain", enrolled=False)
        with Mesh(lab, manifests, certificate_seconds=LIFE_S) as mesh:
            mesh.wait_captured(web, more, db)
            yield Town(lab, manifests, mesh, web, db, lab.directory / "identity")


def identities(mesh):
    return json.loads(mesh.seine("identity", "-o", "json").stdout)


def certificates(mesh):
    return {each["name"]: each for each in identities(mesh)["certificates"]}


def serial(mesh, name=WEB):
    return certificates(mesh)[name]["serial"]


def wait_renewed(mesh, name=WEB):
    before = serial(mesh, name)
    eventually(lambda: serial(mesh, name) not in ("", before), f"a new certificate of {name}", LIFE_S)


def test_there_is_one_certificate_per_service_account_of_the_enrolled_pods(town):
    assert set(certificates(town.mesh)) == {WEB, DB}
    assert {pod["name"]: pod["identity"] for pod in town.mesh.status()["pods"]} == {"web": WEB, "more": WEB, "db": DB}


def test_openssl_takes_them_under_the_root_that_is_shown(town, tmp_path):
    found = identities(town.mesh)
    (root,) = found["roots"]
    (tmp_path / "root.pem").write_text(root["certificate"])
    for each in found["certificates"]:
        (tmp_path / "leaf.pem").write_text("".join(each["chain"]))
        for purpose in ("sslserver", "sslclient"):
            command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem", "leaf.pem"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")


def test_they_are_renewed_long_before_they_end(town):
    wait_renewed(town.mesh)
    samples = town.mesh.metrics()
    assert samples.value("seine_identity_certificates_total", event="renewed") >= 1
    assert samples.value("seine_identity_certificates_total", event="expired") == 0
    assert samples.value("seine_identity_certificate_expiry_timestamp_seconds", identity=WEB) > 1e9


def test_a_broken_authority_is_told_and_what_is_there_goes_on(town):
    path = town.state / "authority.json"
    good = path.read_bytes()
    before = serial(town.mesh)
    path.write_bytes(good[:100])
    try:
        broken = eventually(lambda: identities(town.mesh)["problem"], "the problem to be told")
        assert broken.startswith(f"{path} cannot be read")
        assert serial(town.mesh) == before
        assert "cannot be read" in town.mesh.seine("status").stdout
        assert town.mesh.metrics().value("seine_identity_authority_failures_total", reason="damaged") >= 1
        assert path.read_bytes() == good[:100]
        assert str(path) in town.mesh.log()
    finally:
        path.write_bytes(good)
    eventually(lambda: not identities(town.mesh)["problem"], "the authority to be well again")
    wait_renewed(town.mesh)


def test_a_new_service_account_gets_its_certificate_before_its_pod_is_captured(town):
    late = town.lab.pod("late")
    town.manifests.pod(late, service_account="late")
    town.mesh.wait_captured(late)
    name = "spiffe://cluster.local/ns/default/sa/late"
    assert serial(town.mesh, name)
    assert town.mesh.pod(late)["identity"] == name
    town.manifests.remove("pod-default-late")
    eventually(lambda: name not in certificates(town.mesh), "the identity to be dropped with its last pod")
    late.remove()


def files_of(town):
    places = (town.state, town.mesh.run_dir, town.lab.directory)
    return {path for place in places for path in place.rglob("*") if path.is_file()}


def test_no_key_is_in_any_file_but_the_roots_own(town):
    wait_renewed(town.mesh)
    assert town.mesh.seine("dump").returncode == 0
    with_keys = {path for path in files_of(town) if any(sign in path.read_bytes() for sign in KEY_SIGNS)}
    assert with_keys == {town.state / "authority.json"}
    assert (town.state / "authority.json").stat().st_mode & 0o777 == 0o600
    for path in ("/identity", "/status", "/dump"):
        answer = cli.ask(town.mesh.run_dir, path)
        assert not [sign for sign in KEY_SIGNS if sign in answer]


def test_workers_have_no_key_and_not_even_the_library(town):
    for pid in town.mesh.worker_pids().values():
        assert "cryptography" not in Path(f"/proc/{pid}/maps").read_text()
    assert "cryptography" in Path(f"/proc/{town.mesh.agent.pid}/maps").read_text()


def test_a_denied_certificate_is_replaced_at_once_and_a_denied_identity_gets_none(town):
    bad = serial(town.mesh)
    assert town.mesh.seine("identity", "deny", bad.upper(), "--for", "1h", "--reason", "lost").returncode == 0
    eventually(lambda: serial(town.mesh) not in ("", bad), "another certificate")
    denied = town.mesh.seine("identity", "deny", DB, "--for", "1h")
    assert denied.stdout == f"{DB} is denied for 1h; its connections end, between nodes and within one\n"
    eventually(lambda: "is denied until" in certificates(town.mesh)[DB]["problem"], "renewal to be refused", LIFE_S)
    assert town.mesh.metrics().value("seine_identity_denied") == 2
    assert town.mesh.seine("identity", "allow", DB).returncode == 0
    assert town.mesh.seine("identity", "allow", bad).returncode == 0
    eventually(lambda: not certificates(town.mesh)[DB]["problem"], "the renewal")
    eventually(lambda: town.mesh.metrics().value("seine_identity_denied") == 0, "nobody to be denied")


def test_an_agent_that_starts_again_has_new_keys_from_the_same_root(town):
    before, root = certificates(town.mesh), identities(town.mesh)["roots"]
    town.mesh.kill_agent()
    town.mesh.start()
    town.mesh.wait_captured(town.web)
    after = certificates(town.mesh)
    assert {name: bool(each["serial"]) for name, each in after.items()} == {WEB: True, DB: True}
    assert after[WEB]["serial"] != before[WEB]["serial"]
    assert identities(town.mesh)["roots"] == root


def test_where_no_state_can_be_kept_pods_are_captured_all_the_same():
    """They have no identities, and everything that tells of the node says so."""
    with Lab("stateless") as lab:
        client, server = lab.pod("client"), lab.pod("server")
        talk = apps.Talk(server)
        manifests = Manifests(lab.directory / "source", lab).pod(client).pod(server)
        vip, _ = manifests.service("talk", talk.port, backends=[server])
        (lab.directory / "file").write_text("")
        with Mesh(lab, manifests, identity_dir=lab.directory / "file/identity") as mesh:
            mesh.wait_captured(client, server)
            mesh.wait_service("talk")
            with client.connect(vip, talk.port) as sock:
                sock.sendall(b"who\n")
                assert b"server" in sock.recv(1000)
            mesh.wait_carried(client, 1)
            assert {pod["identity"] for pod in mesh.status()["pods"]} == {""}
            assert "file/identity/authority.json: Not a directory" in mesh.seine("status").stdout
            assert mesh.metrics().value("seine_identity_certificates_missing") == 1
            checked = mesh.seine("check")
            assert "every identity has its certificate" in checked.stdout
            assert "file/identity/authority.json: Not a directory" in mesh.log()


def test_a_node_that_is_cleaned_away_is_forgotten_by_those_that_share_its_authority():
    with Lab("forgotten") as lab:
        pod = lab.pod("web")
        manifests = Manifests(lab.directory / "source", lab).pod(pod)
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(pod)
            record = lab.directory / f"identity/nodes/{mesh.node}.json"
            eventually(lambda: json.loads(record.read_text())["leafs"], "the node to say what it holds")
            mesh.stop()
            assert not record.exists()
            assert (lab.directory / "identity/authority.json").exists()


def test_an_authority_elsewhere_may_be_away_and_comes_back():
    """Its certificates are used on, the node says what is wrong, and renews as soon as it can."""
    with Lab("remote") as lab:
        pod = lab.pod("web")
        manifests = Manifests(lab.directory / "source", lab).pod(pod, service_account="web")
        far = Far(lab)
        mesh = Mesh(lab, manifests, **far.settings())
        with mesh:
            mesh.wait_captured(pod)
            before = serial(mesh)
            assert mesh.pod(pod)["identity"] == WEB
            far.process.stop()
            problem = eventually(lambda: certificates(mesh)[WEB]["problem"], "the renewal to fail", LIFE_S)
            assert problem.startswith(f"https://localhost:{far.port}: ")
            assert serial(mesh) == before
            samples = mesh.metrics()
            assert samples.value("seine_identity_authority_failures_total", reason="unreachable") >= 1
            assert samples.value("seine_identity_certificates_total", event="expired") == 0
            refused = mesh.seine("identity", "rotate")
            assert refused.returncode == 1
            assert f"those of https://localhost:{far.port}: they are changed there" in refused.stderr
            far.start()
            eventually(lambda: serial(mesh) not in ("", before), "a renewal", LIFE_S)
            assert not (lab.directory / "identity").exists()


class Far:
    """The authority of tests.kit.authority; always at one port."""

    def __init__(self, lab):
        self.lab, self.directory, self.port = lab, lab.directory / "far", 0
        self.directory.mkdir()
        (self.directory / "token").write_text(f"{authority.TOKEN}\n")
        self.start()

    def start(self):
        (self.directory / "port").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.kit.authority", str(self.directory), str(self.port), str(LIFE_S)]
        self.process = spawn.spawn(
            command,
            self.lab.log_path("authority"),
            env={"PYTHONPATH": str(apps.ROOT), leftovers.MARK: f"{self.lab.name}-far"},
        )
        self.lab.at_end(self.process.stop)
        self.port = int(eventually(lambda: self._said(), "the authority to listen", 20))

    def _said(self):
        path = self.directory / "port"
        return path.read_text() if path.exists() else ""

    def settings(self):
        return {
            "authority_url": f"https://localhost:{self.port}",
            "authority_token": self.directory / "token",
            "authority_roots": self.directory / "roots.pem",
        }
