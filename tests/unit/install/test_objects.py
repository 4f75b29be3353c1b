"""What an installation consists of, and that what is committed is what is printed."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.render.files import CHART, ROOT, files
from mesh.install.objects import crds, objects
from mesh.install.pods import RUN
from mesh.install.values import Values


def by_kind(made: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in made if each["kind"] == kind]


def test_what_is_committed_is_what_is_rendered():
    """`./dev render` writes it."""
    made = files()
    assert [name for name, text in made.items() if (ROOT / name).read_text() != text] == []
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / CHART).rglob("*") if path.is_file()}
    assert there == {name for name in made if name.startswith(CHART)}
    assert list(yaml.safe_load_all(made["deploy/base/seine.yaml"])) == objects(Values())


@pytest.mark.parametrize(
    ("said", "good"),
    [
        ({}, True),
        ({"workers": 4, "monitors": True}, True),
        ({"workers": 0}, False),
        ({"workers": "two"}, False),
        ({"mtls": "maybe"}, False),
        ({"namespace": "A_B"}, False),
        ({"wrokers": 4}, False),
    ],
)
def test_the_charts_schema_takes_what_values_take(said: dict[str, Any], good: bool):
    schema = json.loads(files()[f"{CHART}/values.schema.json"])
    jsonschema.Draft7Validator.check_schema(schema)
    defaults = yaml.safe_load(files()[f"{CHART}/values.yaml"])
    assert jsonschema.Draft7Validator(schema).is_valid(defaults | said) == good


def test_every_object_is_in_our_namespace_or_in_none():
    for each in objects(Values(namespace="mesh")):
        assert each["metadata"].get("namespace", "mesh") == "mesh"
        assert "seine-system" not in yaml.safe_dump(each)


def test_workers_meet_the_restricted_profile_but_for_the_hostpath_of_the_socket():
    pod = by_kind(objects(Values()), "DaemonSet")[1]["spec"]["template"]["spec"]
    container = pod["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert not container["allowPrivilegeEscalation"]
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert not pod["automountServiceAccountToken"]
    assert [volume["hostPath"]["path"] for volume in pod["volumes"]] == [RUN]


def test_workers_are_replaced_only_when_somebody_deletes_them_and_agents_one_by_one():
    agent, worker = by_kind(objects(Values()), "DaemonSet")
    assert agent["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1}
    assert worker["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_metrics_are_on_the_nodes_network_only_where_somebody_scrapes_them():
    def address(values: Values) -> str:
        agent = by_kind(objects(values), "DaemonSet")[0]["spec"]["template"]["spec"]["containers"][0]
        return str(next(one["value"] for one in agent["env"] if one["name"] == "SEINE_ADMIN_ADDRESS"))

    assert address(Values()) == "127.0.0.1"
    assert not by_kind(objects(Values()), "PodMonitor")
    assert address(Values(monitors=True)) == "0.0.0.0"
    assert by_kind(objects(Values(monitors=True)), "PodMonitor")


def test_the_crds_are_the_ones_of_the_tree_and_nothing_else():
    assert {each["kind"] for each in crds()} == {"CustomResourceDefinition"}
    assert {each["spec"]["group"] for each in crds()} == {"seine.dev"}


def test_the_agent_sees_the_nodes_cni_folders_wherever_they_are_or_none():
    def folders(values: Values) -> tuple[dict[str, str], dict[str, str]]:
        pod = by_kind(objects(values), "DaemonSet")[0]["spec"]["template"]["spec"]
        env = {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}
        mounts = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
        paths = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each}
        told = {name: value for name, value in env.items() if name.startswith("SEINE_CNI")}
        return told, {name: paths[mounts[inside]] for name, inside in told.items()}

    told, seen = folders(Values(cni_bin="/k3s/bin"))
    assert told == {"SEINE_CNI_CONF": "/host/cni/net.d", "SEINE_CNI_BIN": "/host/cni/bin"}
    assert seen == {"SEINE_CNI_CONF": "/etc/cni/net.d", "SEINE_CNI_BIN": "/k3s/bin"}
    assert folders(Values(cni=False)) == ({}, {})
