"""Seine's own image in real containers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deploy.image import build

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()

CHECK = """
apiVersion: v1
kind: Pod
metadata: {name: check, namespace: NAMESPACE}
spec:
  hostNetwork: true
  hostPID: true
  restartPolicy: Never
  containers:
    - name: check
      image: seine.test/seine:dev
      imagePullPolicy: Never
      args: [check, --pre, -o, json]
      securityContext: {privileged: true}
      volumeMounts:
        - {name: cgroup, mountPath: /host/cgroup, mountPropagation: HostToContainer}
        - {name: bpf, mountPath: /sys/fs/bpf, mountPropagation: Bidirectional}
  volumes:
    - {name: cgroup, hostPath: {path: /sys/fs/cgroup}}
    - {name: bpf, hostPath: {path: /sys/fs/bpf}}
"""


@pytest.mark.timeout(400)  # the first time, its layers are made
def test_a_privileged_pod_of_our_image_has_everything_that_an_agent_needs(loaded, namespace):
    loaded.apply(CHECK.replace("NAMESPACE", namespace))
    done = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
    loaded.kubectl("wait", "-n", namespace, "pod/check", done, "--timeout=60s")
    said = json.loads(loaded.kubectl("logs", "-n", namespace, "check"))
    assert said["success"], said


def test_the_dockerfile_makes_what_we_make():
    """There is no Docker here: what both read must be the same, and nothing else is installed."""
    assert "COPY deploy/image/packages.txt" in DOCKERFILE
    installed = re.findall(r"apt-get install [^\n]*?--no-install-recommends (.*?)(?:&&|$)", DOCKERFILE, re.MULTILINE)
    assert [one.strip(" \\") for one in installed][-1] == "$(cat /packages.txt)"
    assert f".[{','.join(build.EXTRAS)}]" in DOCKERFILE
    assert f"/{build.SITE}" in DOCKERFILE
    assert json.dumps(build.CONFIG["Entrypoint"]) in DOCKERFILE
