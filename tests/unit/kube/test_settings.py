import pytest

from mesh.kube.objects import Meta
from mesh.kube.settings import BadField, Settings, path_setting, read_settings, weight
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
