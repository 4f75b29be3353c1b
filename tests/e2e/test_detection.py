"""What a connection speaks is found out or declared, and shown: real curl and nginx, TLS and HTTP/2 among it."""

import json
import subprocess
from dataclasses import dataclass

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests, Port
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

PLAIN_HTTP2, TLS, ORIGIN, TALK, OPAQUE = 8080, 8443, 8081, 7000, 7100
NAME = "shop.example"
NGINX = """
daemon off; master_process off; error_log stderr warn; pid {directory}/pid;
events {{ }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  ssl_certificate {directory}/certificate; ssl_certificate_key {directory}/key;
  server {{
    listen {plain} http2; listen {tls} ssl http2;
    location / {{ return 200 "$server_protocol $ssl_server_name"; }}
  }}
}}
"""


@dataclass
class Town:
    mesh: Mesh
    client: Pod
    server: Pod
    origin: apps.Origin
    vip: str

    def protocols(self) -> dict[str, float]:
        """Connections that the client opened, by what they spoke."""
        found: dict[str, float] = {}
        for sample in self.mesh.metrics().samples:
            if sample.name == "seine_connections_total" and sample.labels["source_workload"] == self.client.name:
                protocol = sample.labels["protocol"]
                found[protocol] = found.get(protocol, 0) + sample.value
        return found


def serve(pod: Pod) -> None:
    directory = pod.directory / "nginx"
    directory.mkdir()
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days"]
    make += ["1", "-subj", f"/CN={NAME}", "-keyout", str(directory / "key"), "-out", str(directory / "certificate")]
    subprocess.run(make, check=True, capture_output=True)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, plain=PLAIN_HTTP2, tls=TLS))
    pod.popen(["nginx", "-c", str(configuration), "-p", str(directory)])
    pod.wait_listening(PLAIN_HTTP2, TLS)


@pytest.fixture(scope="module")
def town():
    with Lab("detection") as lab:
        client, server = lab.pod("client"), lab.pod("server")
        serve(server)
        origin = apps.Origin(server, ORIGIN)
        for port in (TALK, OPAQUE):
            apps.Talk(server, port, port + 1, port + 2)
        manifests = Manifests(lab.directory / "source", lab).pod(client).pod(server, opaque=[OPAQUE])
        declared = [
            Port(ORIGIN, app_protocol="http"),
            Port(TALK, name="tcp-talk"),
            Port(OPAQUE, name="http-but-opaque-at-the-pod"),
        ]
        vip, _ = manifests.service("all", PLAIN_HTTP2, TLS, *declared, backends=[server])
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, server)
            mesh.wait_service("all")
            yield Town(mesh, client, server, origin, vip)


def more(town: Town, protocol: str, before: dict[str, float]) -> bool:
    return town.protocols().get(protocol, 0) == before.get(protocol, 0) + 1


def test_tls_is_carried_as_it_is_and_its_server_name_is_listed(town):
    before = town.protocols()
    connection = ["openssl", "s_client", "-connect", f"{town.vip}:{TLS}", "-servername", NAME, "-quiet"]
    asking = town.client.popen(["sh", "-c", f"(echo; sleep 1000) | {' '.join(connection)}"])
    eventually(lambda: NAME in names_listed(town), "the name in the dump")
    asking.stop()
    url = f"https://{NAME}:{TLS}/"
    page = apps.curl(town.client, url, "-k", "--http1.1", "--resolve", f"{NAME}:{TLS}:{town.vip}")
    assert (page.status, page.body) == (200, f"HTTP/1.1 {NAME}")
    eventually(lambda: town.protocols().get("tls", 0) == before.get("tls", 0) + 2, "both to be counted as TLS")


def names_listed(town: Town) -> set[str]:
    done = town.mesh.seine("dump")
    assert done.returncode == 0, done.stderr
    workers = json.loads(done.stdout)["workers"].values()
    return {connection["sni"] for worker in workers for connection in worker["carries"]["connections"]}


def test_http2_without_tls_is_recognized_and_carried(town):
    before = town.protocols()
    page = apps.curl(town.client, f"http://{town.vip}:{PLAIN_HTTP2}/", "--http2-prior-knowledge")
    assert (page.status, page.body) == (200, "HTTP/2.0 ")
    eventually(lambda: more(town, "http2", before), "it to be counted as HTTP/2")


def test_a_port_declared_http_is_nothing_else(town):
    before = len(town.origin.connections())
    with town.client.connect(town.vip, ORIGIN) as sock:
        sock.sendall(b"\x00\x01 what is this\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert len(town.origin.connections()) == before, "the application has seen nothing of it"


def test_where_nobody_declared_anything_the_first_bytes_decide(town):
    before = town.protocols()
    page = apps.curl(town.client, f"http://{town.server.ip}:{ORIGIN}/")
    assert page.status == 200
    eventually(lambda: more(town, "http1", before), "it to be counted as HTTP/1")


@pytest.mark.parametrize("port", [TALK, OPAQUE])
def test_a_port_declared_opaque_is_not_looked_into(town, port):
    """By the Service's port, or by the pod, whose word is the last."""
    before = town.protocols()
    with town.client.connect(town.vip, port) as sock:
        assert talk.ask(sock, "echo GET / HTTP/1.1") == "GET / HTTP/1.1"
    eventually(lambda: more(town, "tcp", before), "it to be counted as opaque")
