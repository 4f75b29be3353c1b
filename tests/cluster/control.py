"""The control plane: etcd, API server, controllers, scheduler, on a machine without pods, with what a real one has.

Authorization is Node and RBAC with Kubernetes' own roles; every request is in the audit log (metadata only). Pods' and
Services' addresses are the same in every cluster, for they never leave its machines; only the segment differs.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from tests.cluster.api import Api
from tests.cluster.certificates import Certificates
from tests.cluster.machine import Machine
from tests.kit.wait import eventually

API_PORT = 6443
PODS = ("10.244.0.0/16", "fd00:10:244::/56")
SERVICES = ("10.96.0.0/16", "fd00:10:96::/112")
KUBERNETES_IP = "10.96.0.1"  # the Service `kubernetes`: the first of the range, by the API server's own rule
READY_SECONDS = 60.0  # 4 s on an idle machine

AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [{"level": "Metadata"}],
    "omitStages": ["RequestReceived"],
}


class Control:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.url = f"https://{machine.address}:{API_PORT}"
        self.certificates = Certificates(machine.directory / "pki", self.url)
        self.audit_log = machine.directory / "audit.log"

    @cached_property
    def api(self) -> Api:
        """As administrator."""
        pki = self.certificates.path
        return Api(self.machine.address, API_PORT, pki("ca.crt"), pki("admin.crt"), pki("admin.key"))

    def start_server(self) -> None:
        """Up to an API server that is ready."""
        hosts = [self.machine.address, self.machine.address6, KUBERNETES_IP, "kubernetes.default.svc"]
        self.certificates.issue("apiserver", "kube-apiserver", hosts=hosts)
        self.certificates.issue_clients()
        self.certificates.issue_service_accounts()
        etcd = self.machine.directory / "etcd"
        self.machine.start(["etcd", f"--data-dir={etcd}", "--unsafe-no-fsync", "--log-level=warn"])
        self.start_again()

    def stop_server(self) -> None:
        """The API server alone; etcd keeps what it had."""
        self._server.stop()

    def start_again(self) -> None:
        self._server = server = self.machine.start(["kube-apiserver", *self._server_flags()])

        def ready() -> bool:
            if not server.alive:
                raise RuntimeError(f"the API server ended:\n{server.output()[-4000:]}")
            return self.api.is_ready()

        eventually(ready, "the API server to be ready", READY_SECONDS)

    def start_controllers(self) -> None:
        pki = self.certificates.path
        self.machine.start(
            [
                "kube-controller-manager",
                f"--kubeconfig={pki('controllers.conf')}",
                f"--service-account-private-key-file={pki('accounts.key')}",
                f"--root-ca-file={pki('ca.crt')}",
                f"--cluster-signing-cert-file={pki('ca.crt')}",
                f"--cluster-signing-key-file={pki('ca.key')}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
            ]
        )
        self.machine.start(["kube-scheduler", f"--kubeconfig={pki('scheduler.conf')}", "--leader-elect=false"])

    def _server_flags(self) -> list[str]:
        pki = self.certificates.path
        policy: Path = self.machine.directory / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT))
        return [
            "--etcd-servers=http://127.0.0.1:2379",
            f"--secure-port={API_PORT}",
            f"--advertise-address={self.machine.address}",
            f"--service-cluster-ip-range={','.join(SERVICES)}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={pki('ca.crt')}",
            f"--tls-cert-file={pki('apiserver.crt')}",
            f"--tls-private-key-file={pki('apiserver.key')}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki('accounts.pub')}",
            f"--service-account-signing-key-file={pki('accounts.key')}",
            "--kubelet-preferred-address-types=InternalIP",  # nodes' names are known to nobody: exec would fail
            f"--kubelet-certificate-authority={pki('ca.crt')}",
            f"--kubelet-client-certificate={pki('apiserver-kubelet.crt')}",
            f"--kubelet-client-key={pki('apiserver-kubelet.key')}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",  # a test that reads it has all of it
        ]
