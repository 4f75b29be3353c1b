"""What is committed for Helm and kustomize is what `seine install` prints, and a real API server takes all of it."""

from __future__ import annotations

import itertools
import subprocess
from typing import Any

import pytest
import yaml

from tests.cluster import binaries
from tests.cluster.cluster import Cluster
from tests.cluster.mesh import ROOT, seine
from tests.cluster.test_uninstall import left_on
from tests.kit.wait import eventually

CHART = ROOT / "deploy/helm/seine"
CHOICES = (
    (),
    ("workers=4", "log_level=DEBUG", "mtls=strict", "trust_domain=example.org", "image=here.example/seine:1"),
    ("monitors=true", "pull_policy=Always"),
)
OPERATOR = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: PLURAL.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: KIND, plural: PLURAL}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
"""


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binaries.helm(), *arguments], capture_output=True, text=True, check=False)


def by_name(text: str) -> dict[tuple[str, str], Any]:
    objects = [each for each in yaml.safe_load_all(text) if each]
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    assert len(found) == len(objects)
    return found


def sets(chosen: tuple[str, ...]) -> list[str]:
    return list(itertools.chain.from_iterable(("--set", each) for each in chosen))


@pytest.mark.parametrize("chosen", CHOICES, ids=["defaults", "texts", "switches"])
def test_helm_makes_of_the_chart_what_seine_install_prints(chosen: tuple[str, ...]) -> None:
    done = helm("template", "seine", str(CHART), "--include-crds", *sets(chosen))
    assert done.returncode == 0, done.stderr
    assert by_name(done.stdout) == by_name(seine("install", *sets(chosen)))


def test_helm_refuses_what_seine_install_refuses() -> None:
    for chosen in ("workers=0", "workers=many", "mtls=maybe", "wrokers=2", "namespace=A_B"):
        assert helm("template", "seine", str(CHART), "--set", chosen).returncode != 0, chosen


def test_helm_finds_nothing_to_complain_of() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_api_server_takes_every_manifest(cluster: Cluster) -> None:
    """By its own schemas and strictly: a field that it does not know is refused."""
    for kind in ("PodMonitor", "ServiceMonitor"):
        cluster.apply(OPERATOR.replace("KIND", kind).replace("PLURAL", f"{kind.lower()}s"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    dry = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts")
    try:
        cluster.kubectl("create", "namespace", "seine-system")
        cluster.kubectl("create", "namespace", "shop")
        cluster.kubectl(*dry, "-k", str(ROOT / "deploy/base"))
        cluster.kubectl(*dry, "-k", str(ROOT / "deploy/demo/kubernetes"))
        for chosen in CHOICES:
            cluster.kubectl(*dry, "-f", "-", text=seine("install", *sets(chosen)))
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "namespace", "seine-system", "shop")
        for kind in ("podmonitors", "servicemonitors"):
            cluster.kubectl("delete", "--ignore-not-found", "crd", f"{kind}.monitoring.coreos.com")


def test_helm_installs_and_removes(loaded: Cluster) -> None:
    config = f"--kubeconfig={loaded.kubeconfig}"
    done = helm("install", "seine", str(CHART), config)
    assert done.returncode == 0, done.stderr
    try:
        loaded.wait_rollout("daemonset/seine-agent", "seine-system", 120)
    finally:
        gone = helm("uninstall", "seine", config, "--wait")
    assert gone.returncode == 0, gone.stderr
    eventually(
        lambda: not [each for node in loaded.nodes.values() for each in left_on(node)], "the nodes to be clean", 60
    )
    loaded.kubectl("delete", "--ignore-not-found", "-f", str(ROOT / "deploy/crds"))
