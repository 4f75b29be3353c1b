"""Where the API server is, and as whom we come.

In a pod it is the service account that is mounted there, read anew for each connection, because kubelet replaces the
token once an hour and the CA file when it is rotated. Outside it is a kubeconfig, which a child process reads (see
kubeconfig.py): at the start, and again when the server does not know us any more, because its token may come from a
program and end.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from mesh.config import in_cluster_server

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CHILD_SECONDS = 60.0  # a credential plugin may ask a cloud
NO_CLUSTER = (
    "KUBERNETES_SERVICE_HOST is not set, so this is no pod of a cluster: "
    "let the cluster's DaemonSet run the agent, or give it a kubeconfig"
)


class AccessError(RuntimeError):
    """A sentence for the operator. Never has a secret in it."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """PEM texts and a bearer token; each may be empty."""

    server: str  # http[s]://HOST[:PORT][/PREFIX]
    authority: str = ""
    certificate: str = ""
    key: str = ""
    token: str = ""
    server_name: str = ""
    verify: bool = True

    @property
    def host(self) -> str:
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.server).port or (443 if self.secure else 80)

    @property
    def secure(self) -> bool:
        return urlsplit(self.server).scheme == "https"

    def without_token(self) -> Credentials:
        """What a connection depends on."""
        return msgspec.structs.replace(self, token="")

    @property
    def prefix(self) -> str:
        return urlsplit(self.server).path.rstrip("/")


class Access(Protocol):
    name: str  # for people

    async def credentials(self) -> Credentials:
        """For the next connection. Raises AccessError."""

    def forget(self) -> None:
        """The server did not accept them."""


class ServiceAccount:
    """The one of the pod we are in."""

    def __init__(self, folder: Path = ACCOUNT) -> None:
        self._folder = folder
        self.name = "the cluster of this pod"

    async def credentials(self) -> Credentials:
        server = in_cluster_server()
        if not server:
            raise AccessError(NO_CLUSTER)
        try:
            token, authority = ((self._folder / name).read_text().strip() for name in ("token", "ca.crt"))
        except OSError as error:
            raise AccessError(
                f"{error.filename} cannot be read: {error.strerror}; does the pod mount its service account?"
            ) from None
        return Credentials(server=server, authority=authority, token=token)

    def forget(self) -> None:
        """Nothing is kept."""


class Kubeconfig:
    """A file, or several joined by ":"; its current context."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: Credentials | None = None
        self._turn = asyncio.Lock()  # many kinds ask at once, and a child costs 45 MiB for half a second
        self.name = f"the cluster of {path}"

    async def credentials(self) -> Credentials:
        async with self._turn:
            if self._known is None:
                self._known = await read_kubeconfig(self._path)
            return self._known

    def forget(self) -> None:
        self._known = None


def open_access(kubeconfig: str) -> Access:
    """To the API server of a kubeconfig; "": of the cluster that we are in."""
    return Kubeconfig(kubeconfig) if kubeconfig else ServiceAccount()


async def read_kubeconfig(path: str) -> Credentials:
    """Raises AccessError."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh.kube.api.kubeconfig", path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        told, complaint = await asyncio.wait_for(child.communicate(), CHILD_SECONDS)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise AccessError(f"{path}: its credential plugin did not answer within {CHILD_SECONDS:.0f} s") from None
    if child.returncode:
        reason = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise AccessError(f"{path}: {reason or f'its reader ended with {child.returncode}'}")
    return msgspec.json.decode(told, type=Credentials)


def tls(credentials: Credentials) -> ssl.SSLContext | None:
    """None for a server without TLS. Raises AccessError."""
    if not credentials.secure:
        return None
    try:
        context = ssl.create_default_context(cadata=credentials.authority or None)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13's; many clusters' authorities lack an extension
        if not credentials.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if credentials.certificate:
            _load_pair(context, credentials)
    except ssl.SSLError as error:
        raise AccessError(f"the certificates for {credentials.server} cannot be used: {error}") from None
    return context


def _load_pair(context: ssl.SSLContext, credentials: Credentials) -> None:
    """By a file in memory: OpenSSL's reader wants a path, and a key has no business on a disk."""
    fd = os.memfd_create("seine-client", os.MFD_CLOEXEC)
    with open(fd, "w", encoding="ascii") as file:
        file.write(f"{credentials.certificate}\n{credentials.key}\n")
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{fd}")
