import ast
import re
from pathlib import Path

import pytest

from mesh.kube.objects import KINDS, Meta
from mesh.kube.settings import KNOWN, BadField, Settings, path_setting, read_settings, strangers, weight
from mesh.model import FailMode, Mtls


def meta(labels: dict[str, str] | None = None, **annotations: str) -> Meta:
    """`fail="x"` is seine.dev/fail, `opaque_ports="x"` is config.seine.dev/opaque-ports."""
    spelled = {
        (f"config.seine.dev/{key.replace('_', '-')}" if key.endswith("ports") else f"seine.dev/{key}"): text
        for key, text in annotations.items()
    }
    return Meta(name="x", labels=labels, annotations=spelled)


def test_what_is_not_said_is_not_set():
    assert read_settings(Meta()) == Settings()


def test_everything_can_be_said():
    said = read_settings(
        meta(
            {"seine.dev/mesh": "enabled"},
            fail="closed",
            shortcut="enabled",
            mtls="strict",
            skip_inbound_ports="22, 9000-9002",
            skip_outbound_ports="25",
            opaque_ports="",
        )
    )
    assert said == Settings(
        mesh=True,
        fail=FailMode.CLOSED,
        shortcut=True,
        mtls=Mtls.STRICT,
        skip_inbound_ports=frozenset({22, 9000, 9001, 9002}),
        skip_outbound_ports=frozenset({25}),
        opaque_ports=frozenset(),
    )


def test_a_pods_word_wins_over_its_namespaces_setting_by_setting():
    namespace = Settings(mesh=True, fail=FailMode.CLOSED, opaque_ports=frozenset({25}))
    pod = Settings(mesh=False, opaque_ports=frozenset())
    assert pod.over(namespace) == Settings(mesh=False, fail=FailMode.CLOSED, opaque_ports=frozenset())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (meta({"seine.dev/mesh": "on"}), "metadata.labels[seine.dev/mesh]: 'on'; it must be enabled or disabled"),
        (meta(fail="close"), "metadata.annotations[seine.dev/fail]: 'close'; it must be open or closed"),
        (meta(fail="Closed"), "must be open or closed"),
        (meta(shortcut="true"), "must be enabled or disabled"),
        (meta(mtls="Strict"), "[seine.dev/mtls]: 'Strict'; it must be permissive or strict or disabled"),
        (meta(opaque_ports="0"), "'0'; it must be ports"),
        (meta(opaque_ports="65536"), "'65536'; it"),
        (meta(opaque_ports="25,smtp"), "'smtp'; it"),
        (meta(opaque_ports="30-20"), "'30-20'; it"),
        (meta(opaque_ports="1-2-3"), "'1-2-3'; it"),
        (meta(opaque_ports="-5"), "'-5'; it"),
        (meta(opaque_ports="\u0662\u0665"), "it must be ports from 1 to 65535"),
        (meta(opaque_ports="1" * 5000), "it must be ports from 1 to 65535"),
    ],
)
def test_what_is_not_understood_is_refused_and_never_guessed(source, words):
    with pytest.raises(BadField) as caught:
        read_settings(source)
    assert words in caught.value.args[0]
    assert caught.value.path[0] == "metadata"
    assert caught.value.path[2] in {**(source.labels or {}), **(source.annotations or {})}


def test_weights_are_whole_numbers_from_1_to_1000():
    assert weight(Meta()) is None
    assert weight(meta(weight="250")) == 250
    for bad in ("0", "1001", "-1", "1.5", "", "x", "\u0665"):
        with pytest.raises(BadField, match="from 1 to 1000"):
            weight(meta(weight=bad))


def test_paths_have_no_detours():
    assert path_setting(Meta(), "seine.dev/netns", absolute=True) == ""
    assert path_setting(meta(netns="/run/netns/a"), "seine.dev/netns", absolute=True) == "/run/netns/a"
    assert path_setting(meta(cgroup="demo/a"), "seine.dev/cgroup", absolute=False) == "demo/a"
    for bad in ("", "netns/a", "/run/../etc", "/run/netns/a\0b"):
        with pytest.raises(BadField, match="an absolute path"):
            path_setting(meta(netns=bad), "seine.dev/netns", absolute=True)
    with pytest.raises(BadField, match="relative to the cgroup2 root"):
        path_setting(meta(cgroup="a/../../b"), "seine.dev/cgroup", absolute=False)


# --- misspelt names


def told(kind: str, labels: dict[str, str] | None = None, **annotations: str) -> list[str]:
    names = {name.replace("__", "/").replace("_", "-"): text for name, text in annotations.items()}
    return [str(each) for each in strangers(kind, Meta(name="x", labels=labels, annotations=names))]


def test_a_name_that_is_read_there_is_no_stranger_and_other_peoples_names_are_none_of_our_business():
    assert told("Pod", {"seine.dev/mesh": "enabled", "app": "web"}, **{"seine.dev__fail": "open"}) == []
    assert told("Pod", {"app.kubernetes.io/name": "x"}, **{"linkerd.io__inject": "enabled", "seine": "x"}) == []
    assert told("Pod", {}, **{"notseine.dev__fail": "open", "config.linkerd.io__opaque_ports": "25"}) == []


@pytest.mark.parametrize(
    ("kind", "place", "name", "sentence"),
    [
        ("Pod", "annotations", "seine.dev/fial", "not known here and ignored; is seine.dev/fail meant?"),
        ("Pod", "annotations", "seine.dev/opaque-ports", "is config.seine.dev/opaque-ports meant?"),
        ("Pod", "annotations", "config.seine.dev/skip-inbound-port", "is config.seine.dev/skip-inbound-ports meant?"),
        ("Pod", "annotations", "config.seine.dev/fail", "is seine.dev/fail meant?"),
        ("Namespace", "labels", "seine.dev/meshed", "is seine.dev/mesh meant?"),
        ("Pod", "annotations", "policy.seine.dev/xyzzy", "not known here and ignored"),
        ("Pod", "annotations", "seine.dev/mesh", "ignored here; it is one of the labels"),
        ("Pod", "labels", "seine.dev/fail", "ignored here; it is one of the annotations"),
        ("Pod", "annotations", "seine.dev/balancer", "ignored on a Pod; it is read on Service"),
        ("Service", "annotations", "seine.dev/fail", "ignored on a Service; it is read on Namespace and Pod"),
    ],
)
def test_a_name_of_ours_that_nobody_reads_there_is_told(kind, place, name, sentence):
    labels, annotations = ({name: "x"}, None) if place == "labels" else (None, {name: "x"})
    (found,) = strangers(kind, Meta(name="x", labels=labels, annotations=annotations))
    assert found.path == ("metadata", place, name)
    assert found.reason.endswith(sentence)


def test_every_name_that_the_package_uses_is_declared():
    """Else its users would be told that it is misspelt."""
    package = Path(__file__).resolve().parents[3] / "mesh"
    nodes = (node for path in package.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {text for text in texts if re.fullmatch(r"([a-z-]+\.)*seine\.dev/[a-z-]+", text)}
    assert names == set(KNOWN)
    assert {kind for known in KNOWN.values() for kind in known.kinds} <= set(KINDS)
