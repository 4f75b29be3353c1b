"""What the plugin sends -> values, and the sentence for what cannot be one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cni.question import BadQuestion, Question, read

ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=6f1c"
RESULT = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "veth0"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
    "ips": [
        {"interface": 1, "address": "10.244.1.7/24", "gateway": "10.244.1.1"},
        {"interface": 1, "address": "fd00:0::7/64"},
        {"interface": 0, "address": "10.244.1.1/24"},
    ],
}


def asked(result: object = RESULT, args: str = ARGS, command: str = "ADD") -> bytes:
    variables = f"CNI_COMMAND={command}\0CNI_CONTAINERID=c\0CNI_ARGS={args}\0\0"
    return variables.encode() + json.dumps({"type": "seine-cni", "prevResult": result}).encode()


def test_pod_and_its_own_addresses_are_read():
    assert read(asked()) == Question(namespace="shop", name="web-1", uid="6f1c", addresses=("10.244.1.7", "fd00::7"))


@pytest.mark.parametrize(
    "ips", [[{"address": "10.1.1.1/8"}], [{"version": "4", "address": "10.1.1.1/8", "interface": None}]]
)
def test_addresses_without_an_interface_are_the_pods_as_in_older_results(ips):
    assert read(asked({"ips": ips})).addresses == ("10.1.1.1",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no question"),
        (b"CNI_COMMAND=ADD", "no question"),
        (asked(command="DEL"), "no question"),
        (asked(args=""), "K8S_POD_NAMESPACE"),
        (asked(args=ARGS.replace("shop", "../..")), "K8S_POD_NAMESPACE"),
        (asked(args=ARGS.replace("web-1", "web,metadata.name=x")), "K8S_POD_NAME"),
        (asked(args=ARGS.replace("6f1c", "")), "K8S_POD_UID"),
        (asked(None), "cannot be read"),
        (asked({"ips": None}), "no address"),
        (asked({"ips": [{"address": "ten"}]}), "'ten' as an address"),
        (asked({"ips": [{"address": 7}]}), "cannot be read"),
        (asked({"ips": RESULT["ips"][2:], "interfaces": RESULT["interfaces"]}), "no address"),
    ],
)
def test_what_is_no_question_is_told(content, sentence):
    with pytest.raises(BadQuestion, match=sentence):
        read(content)


@given(st.binary(max_size=300))
def test_nothing_else_comes_of_garbage(content):
    for each in (content, asked()[: len(content)] + content):
        try:
            read(each)
        except BadQuestion:
            continue
