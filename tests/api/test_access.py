"""Who we are to the API server: kubeconfigs, service accounts, TLS, rotation."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.kube.api.access import AccessError, Credentials, Kubeconfig, ServiceAccount
from mesh.kube.api.client import Session
from tests.kit.pki import Authority


def kubeconfig(path: Path, user: dict[str, Any], **cluster: Any) -> str:
    told = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(told))
    return str(path)


def read(path: str) -> Credentials:
    return asyncio.run(Kubeconfig(path).credentials())


def test_a_token_and_an_authority_are_read(tmp_path):
    data = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
    found = read(kubeconfig(tmp_path / "config", {"token": "abc"}, **{"certificate-authority-data": data}))
    assert (found.server, found.token, found.authority) == (
        "https://10.0.0.1:6443",
        "abc",
        "-----BEGIN CERTIFICATE-----\n",
    )


def test_a_token_may_come_from_a_program(tmp_path):
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "made"}}
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "echo",
        "args": [json.dumps(said)],
        "interactiveMode": "Never",
    }
    assert read(kubeconfig(tmp_path / "config", {"exec": program})).token == "made"


@pytest.mark.parametrize("text", ["", "{", "kind: Config\n"])
def test_a_kubeconfig_that_is_none_is_a_sentence_with_its_path(tmp_path, text):
    (tmp_path / "config").write_text(text)
    with pytest.raises(AccessError, match=f"^{tmp_path}/config: it cannot be used: "):
        read(str(tmp_path / "config"))


def test_a_service_account_is_read_anew_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    (tmp_path / "ca.crt").write_text("CA\n")
    account = ServiceAccount(tmp_path)
    for token in ("one", "two"):
        (tmp_path / "token").write_text(f"{token}\n")
        found = asyncio.run(account.credentials())
        assert (found.server, found.host, found.token) == ("https://[fd00::1]:6443", "fd00::1", token)
    (tmp_path / "token").unlink()
    with pytest.raises(AccessError, match="token cannot be read"):
        asyncio.run(account.credentials())
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(AccessError, match="no pod of a cluster"):
        asyncio.run(account.credentials())


@pytest.fixture
def authority() -> Authority:
    return Authority("cluster")


async def served(context: ssl.SSLContext, credentials: Credentials) -> tuple[int, str]:
    """The status of one answer, and whom the server met."""
    met: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        met.append(str((writer.get_extra_info("peercert") or {}).get("subjectAltName", "")))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    class Given:
        name = "given"

        async def credentials(self) -> Credentials:
            return credentials

        def forget(self) -> None: ...

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    credentials = msgspec.structs.replace(credentials, server=f"https://127.0.0.1:{port}")
    session = Session(Given(), 5)
    try:
        found = await session.ask("/api")
        await found.read(10)
        return found.status, met[0]
    finally:
        session.close()
        server.close()
        await server.wait_closed()


def pem(certificate: Any) -> str:
    return str(certificate.certificate.public_bytes(Encoding.PEM).decode())


def test_the_server_is_believed_by_its_authority_and_sees_our_certificate(authority, tmp_path):
    own, ours = authority.issue(dns=["kubernetes"]), authority.issue("spiffe://x/agent")
    (tmp_path / "server").write_bytes(own.pem())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=pem(authority.root))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "server")
    certificate, _, key = ours.pem().decode().partition("-----BEGIN PRIVATE KEY-----")
    told = Credentials(
        server="",
        authority=pem(authority.root),
        certificate=certificate,
        key=f"-----BEGIN PRIVATE KEY-----{key}",
        server_name="kubernetes",
    )
    assert asyncio.run(served(context, told)) == (200, "(('URI', 'spiffe://x/agent'),)")


def test_a_server_of_another_authority_or_name_is_not_believed(authority, tmp_path):
    (tmp_path / "server").write_bytes(authority.issue(dns=["kubernetes"]).pem())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server")
    stranger = Credentials(server="", authority=pem(Authority("other").root), server_name="kubernetes")
    misnamed = Credentials(server="", authority=pem(authority.root), server_name="kube")
    for told in (stranger, misnamed):
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(served(context, told))


@pytest.mark.parametrize(("begins", "ends", "words"), [(1, 24, "not valid yet"), (-24, -1, "has ended")])
def test_a_certificate_that_is_wrong_by_the_clock_is_a_sentence_about_clocks(authority, tmp_path, begins, ends, words):
    """As where the server's clock is an hour off and its certificate is fresh."""
    own = authority.issue(dns=["kubernetes"], begins=timedelta(hours=begins), ends=timedelta(hours=ends))
    (tmp_path / "server").write_bytes(own.pem())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server")
    told = Credentials(server="", authority=pem(authority.root), server_name="kubernetes")
    with pytest.raises(AccessError, match=f"{words} by this node's clock"):
        asyncio.run(served(context, told))
