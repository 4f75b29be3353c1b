"""Our entry in network configurations of several makers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cni.conflist import TYPE, BadConflist, entry, with_entry, without_entry

OURS = entry("/run/seine/node-a/cni.sock", "/var/lib/seine/cni.rules", "seine-system")
FLANNEL: dict[str, Any] = {
    "name": "cbr0",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def text(**fields: object) -> str:
    return json.dumps({**FLANNEL, **fields})


def test_the_entry_comes_last_and_everything_else_stays():
    made = with_entry(text(disableCheck=True, more={"b": 1, "a": "ä"}), OURS)
    assert made is not None
    assert json.loads(made) == {**FLANNEL, "disableCheck": True, "more": {"b": 1, "a": "ä"},
                                "plugins": [*FLANNEL["plugins"], OURS]}  # fmt: skip
    assert list(json.loads(made)) == ["name", "cniVersion", "plugins", "disableCheck", "more"]


def test_what_is_right_already_is_left_alone():
    made = with_entry(text(), OURS)
    assert made is not None
    assert with_entry(made, OURS) is None


def test_another_versions_entry_becomes_ours_where_it_stands_and_doubles_go():
    old = {"type": TYPE, "socket": "/elsewhere"}
    last = {"type": "bandwidth"}
    made = with_entry(text(plugins=[FLANNEL["plugins"][0], old, last, old]), OURS)
    assert made is not None
    assert json.loads(made)["plugins"] == [FLANNEL["plugins"][0], OURS, last]


def test_the_entry_is_taken_out_again():
    made = with_entry(text(), OURS)
    assert made is not None
    taken = without_entry(made)
    assert taken is not None
    assert json.loads(taken) == FLANNEL
    assert without_entry(taken) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no JSON object"),
        ('{"type": "bridge", "cniVersion": "1.0.0"}', "single plugin"),
        ('{"cniVersion": "1.0.0"}', "no list of plugins"),
        ('{"cniVersion": "1.0.0", "plugins": []}', "no list of plugins"),
        ('{"cniVersion": "1.0.0", "plugins": ["bridge"]}', "no list of plugins"),
        (text(cniVersion="0.2.0"), "from 0.3.0 on"),
        (text(cniVersion=None), "from 0.3.0 on"),
        ('{"plugins": [{"type": "bridge"}]}', "from 0.3.0 on"),
    ],
)
def test_what_can_have_no_entry_is_refused_with_the_reason(content, sentence):
    with pytest.raises(BadConflist, match=sentence):
        with_entry(content, OURS)


plugins = st.lists(
    st.dictionaries(st.sampled_from(["type", "x"]), st.sampled_from(["bridge", "portmap", TYPE])),
    min_size=1,
    max_size=5,
)


@given(plugins)
def test_whatever_was_there_putting_it_in_and_out_leaves_the_others(listed):
    others = [each for each in listed if each.get("type") != TYPE]
    made = with_entry(text(plugins=listed), OURS)
    assert made is None or with_entry(made, OURS) is None
    taken = without_entry(made or text(plugins=listed))
    assert taken is not None
    assert json.loads(taken)["plugins"] == others
