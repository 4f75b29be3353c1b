"""Asks a cluster through the operator's own kubectl.

Who pipes `seine install` into kubectl has one, and with it his kubeconfig, context, proxy and credential plugins are
in effect here as they are there. Never the agent's way, which has a client of its own (mesh.kube.api).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Annotated, Any

import typer

TIMEOUT_SECONDS = 60.0
Object = dict[str, Any]

KubeconfigOption = Annotated[str, typer.Option("--kubeconfig", help="As kubectl's; by default as kubectl finds it.")]
ContextOption = Annotated[str, typer.Option("--context", help="As kubectl's.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Seine's own.")]
HOME = "seine-system"


class KubectlError(RuntimeError):
    """A sentence for the operator."""


class NotFound(KubectlError):
    pass


class Kubectl:
    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        self._options = [f"--kubeconfig={kubeconfig}"] * bool(kubeconfig) + [f"--context={context}"] * bool(context)

    def run(self, *arguments: str, text: str = "", seconds: float = TIMEOUT_SECONDS) -> str:
        """What it prints. Raises KubectlError with its own words."""
        program = shutil.which("kubectl")
        if program is None:
            raise KubectlError("kubectl is not in the PATH, and Seine asks a cluster through it")
        try:
            done = subprocess.run(
                [program, *self._options, *arguments],
                input=text,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KubectlError(f"kubectl {arguments[0]} has not answered for {seconds:.0f} s") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"ended with {done.returncode}"
            missing = "(NotFound)" in said or "could not find the requested resource" in said
            raise (NotFound if missing else KubectlError)(said)
        return done.stdout

    def get(self, path: str) -> Object:
        """What the API server has at a path. Raises NotFound."""
        found: Object = json.loads(self.run("get", "--raw", path))
        return found

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self.get(path).get("items") or []
        return found

    def post(self, path: str, body: Object) -> Object:
        made: Object = json.loads(self.run("create", "--raw", path, "-f", "-", text=json.dumps(body)))
        return made

    def live(self, wanted: Object) -> Object | None:
        """What there is of an object; None: nothing."""
        metadata = wanted["metadata"]
        namespace = ["-n", metadata["namespace"]] if "namespace" in metadata else []
        group, _, _ = wanted["apiVersion"].rpartition("/")
        kind = f"{wanted['kind']}.{wanted['apiVersion'].rpartition('/')[2]}.{group}" if group else wanted["kind"]
        try:
            found: Object = json.loads(self.run("get", kind, metadata["name"], *namespace, "-o", "json"))
        except NotFound:
            return None
        return found
