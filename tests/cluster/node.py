"""A node: containerd and kubelet and kube-proxy on a machine, as any distribution would run them.

The Node object is made before its kubelet starts, with the pod ranges that a cloud's controller would give it. Pods
get their addresses from the bridge and host-local plugins; routes to other nodes' pods are the cluster's choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pyroute2 import IPRoute

from tests.cluster.control import PODS, Control
from tests.cluster.images import PAUSE
from tests.cluster.machine import Machine
from tests.kit.network import netlink
from tests.kit.wait import eventually

CNI_PLUGINS = "/usr/lib/cni"  # Debian's containernetworking-plugins
CNI_BIN, CNI_CONF = "/opt/cni/bin", "/etc/cni/net.d"  # the node's own, where everybody has them
DNS_IP = "10.96.0.10"
DOMAIN = "cluster.local"
SOCKET = "/run/containerd/containerd.sock"


class Node:
    def __init__(self, machine: Machine, control: Control, number: int) -> None:
        self.machine, self._control, self._number = machine, control, number
        self.name = machine.name
        self.pods = (f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64")

    def start_runtime(self) -> None:
        config = self.machine.directory / "containerd.toml"
        config.write_text(containerd_config(self.machine.directory / "containerd"))
        for folder in (CNI_BIN, CNI_CONF):
            self.machine.path(folder).mkdir(parents=True)
        self.network_file.write_text(json.dumps(bridge_network(self.pods)))
        runtime = self.machine.start(["containerd", f"--config={config}"])

        def answers() -> bool:
            if not runtime.alive:
                raise RuntimeError(f"containerd of {self.name} ended:\n{runtime.output()[-4000:]}")
            return self.machine.path(SOCKET).exists()

        eventually(answers, f"containerd of {self.name}", 30)

    @property
    def network_file(self) -> Path:
        """The CNI configuration of its pods."""
        return self.machine.path(f"{CNI_CONF}/10-bridge.conflist")

    def load(self, images: Iterable[Path]) -> None:
        """Import archives; pods use them by `imagePullPolicy: Never` (or IfNotPresent)."""
        for archive in images:
            self.machine.run(["ctr", "--namespace=k8s.io", "images", "import", str(archive)])

    def start_kubelet(self) -> None:
        name, pki = self.name, self._control.certificates
        addresses = [self.machine.address, self.machine.address6]
        pki.issue_client(name, f"system:node:{name}", "system:nodes", [name, *addresses])
        self._control.api.create("/api/v1/nodes", self._object())
        config = self.machine.directory / "kubelet.json"
        config.write_text(json.dumps(self._kubelet_config()))
        kubeconfig = f"--kubeconfig={pki.path(f'{name}.conf')}"
        own = [f"--hostname-override={name}", f"--node-ip={','.join(addresses)}"]
        self.machine.start(["kubelet", f"--config={config}", kubeconfig, *own])
        proxy = ["kube-proxy", f"--kubeconfig={pki.path('proxy.conf')}", f"--hostname-override={name}"]
        limits = ["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]  # the host's, and read-only
        limits += ["--conntrack-tcp-timeout-close-wait=0"]
        self.machine.start([*proxy, f"--cluster-cidr={','.join(PODS)}", *limits])

    def routed_from(self, machine: Machine) -> None:
        """What a CNI in host-gateway mode, or a cloud's network, does for this node's pods."""

        def add(ip: IPRoute) -> None:
            for pods, gateway in zip(self.pods, (self.machine.address, self.machine.address6), strict=True):
                ip.route("replace", dst=pods, gateway=gateway)

        netlink(machine.netns, add)

    def _object(self) -> dict[str, object]:
        labels = {"topology.kubernetes.io/zone": f"zone-{self._number}"}
        spec = {"podCIDR": self.pods[0], "podCIDRs": list(self.pods)}
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}, "spec": spec}

    def _kubelet_config(self) -> dict[str, object]:
        pki = self._control.certificates.path
        resolver = self.machine.directory / "resolv.conf"
        resolver.write_text("")  # there is nobody outside whom a pod could ask
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki("ca.crt"))},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki(f"{self.name}.crt")),
            "tlsPrivateKeyFile": str(pki(f"{self.name}.key")),
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "clusterDNS": [DNS_IP],
            "clusterDomain": DOMAIN,
            "resolvConf": str(resolver),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.machine.lab.name}/{self.name}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        }


def containerd_config(root: Path) -> str:
    return f"""\
version = 3
root = "{root}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true # a test machine may lack CAP_SYS_RESOURCE
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_BIN}", "{CNI_PLUGINS}"]
  conf_dir = "{CNI_CONF}"
"""


def bridge_network(pods: tuple[str, str], few: bool = False) -> dict[str, object]:
    """A CNI network list. `few`: with four addresses of each family, so that they are soon used again."""
    ends = [{"rangeStart": subnet.replace(old, "200"), "rangeEnd": subnet.replace(old, "203")} if few else {}
            for subnet, old in zip(pods, ("0/24", "/64"), strict=True)]  # fmt: skip
    addresses = {
        "type": "host-local",
        "dataDir": "/var/lib/cni",
        "ranges": [[{"subnet": subnet, **end}] for subnet, end in zip(pods, ends, strict=True)],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}
