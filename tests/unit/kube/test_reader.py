"""One file: hostile ones are refused with the line that is wrong, harmless ones are read."""

import asyncio
import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.config import SourceConfig
from mesh.kube.assemble import assemble
from mesh.kube.reader import Reader, Reading

GOOD = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"""


def read(path: Path, content: bytes | str, config: SourceConfig | None = None) -> Reading:
    path = path / "x.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return asyncio.run(Reader(config or SourceConfig()).read(path, "x.yaml"))


def titles(reading: Reading) -> list[str]:
    return [each.facts.title for each in reading.placed]


POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: a
  annotations:
    seine.dev/fail: {fail}
status:
  podIPs:
    - ip: 10.0.0.1
    - ip: {ip}
"""

HOSTILE: dict[str, tuple[bytes | str, int, str]] = {
    "a sentence": ("only words\n", 1, "a Kubernetes object is a mapping, not 'only words'"),
    "a list": ("- a\n- b\n", 1, "a Kubernetes object is a mapping"),
    "no kind": ("a: 1\n---\n\nmetadata: {name: x}\n", 1, "a Kubernetes object has apiVersion and kind"),
    "kind is a number": ("apiVersion: v1\nkind: 7\n", 1, "has apiVersion and kind"),
    "another version": (
        "kind: EndpointSlice\nmetadata: {name: web}\napiVersion: discovery.k8s.io/v1beta1\n",
        3,
        "EndpointSlice web: apiVersion: discovery.k8s.io/v1beta1 is not understood here, only discovery.k8s.io/v1",
    ),
    "a node that lists a name as an address": (
        "apiVersion: seine.dev/v1alpha1\nkind: MeshNode\nmetadata: {name: n1}\nspec:\n  workloads:\n    - uid: a\n"
        "      namespace: x\n      name: a\n      serviceAccount: a\n      addresses:\n        - web.example\n",
        11,
        "MeshNode n1: spec.workloads[0].addresses[0]: 'web.example' is not an IP address",
    ),
    "a misspelt setting": (
        POD.format(fail="close", ip="fd00::1"),
        6,
        "Pod a: metadata.annotations[seine.dev/fail]: 'close'; it must be",
    ),
    "a bad address": (
        POD.format(fail="open", ip="fd00::g"),
        10,
        "Pod a: status.podIPs[1].ip: 'fd00::g' is not an IP address",
    ),
    "an address in the second document": (
        GOOD + "---\n" + POD.format(fail="open", ip="nowhere"),
        14,
        "Pod a: status.podIPs[1].ip: 'nowhere' is not an IP address",
    ),
    "inside a List": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: web}\n"
        "  spec:\n    clusterIP: 10.0.0.1\n    ports:\n"
        "    - port: 80\n      name: a\n    - name: b\n      port: 70000\n",
        13,
        "Service web: spec.ports[1].port: port 70000 is out of range",
    ),
    "an item of a List that is none": ("apiVersion: v1\nkind: List\nitems:\n- x\n- 7\n", 4, "is a mapping, not 'x'"),
    "metadata is a list": ("apiVersion: v1\nkind: Pod\nmetadata: [a]\n", 3, "Pod: metadata: expected `object`"),
    "no metadata": ("apiVersion: v1\nkind: Pod\n", 1, "Pod: metadata.name: '' is no name for an object"),
    "half a line": (GOOD + "---\napiVersion: v1\nkind: Po\n  metadata:\n", 7, "not YAML"),
    "a tab": ("apiVersion: v1\nkind: Pod\n\tmetadata: {}\n", 3, "not YAML"),
    "not UTF-8": (b"a: 1\nb: \xff\xfe\n", 2, "not UTF-8"),
    "UTF-16": ("a: 1\n".encode("utf-16"), 1, "not UTF-8"),
    "NUL": (b"a: 1\nb: \x00\n", 2, "not YAML"),
    "binary": (bytes(range(128, 256)) * 10, 1, "not UTF-8"),
    "ELF": (b"\x7fELF\x02\x01\x01" + bytes(64), 1, "not YAML"),
    "brackets": ("[" * 100_000, 1, "nested deeper than 64 levels"),
    "Python in YAML": ("a: !!python/object/apply:os.system ['touch /tmp/x']\n", 1, "the tag"),
    "a kind of megabytes": ("apiVersion: v1\nkind: [" + "x" * 1_000_000 + "]\n", 1, "has apiVersion and kind"),
    "a name of megabytes": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: " + "x" * 1_000_000 + "}\n",
        3,
        "is no name for an object",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_with_its_line(tmp_path, case):
    content, line, words = HOSTILE[case]
    reading = read(tmp_path, content)
    assert reading.errors, "it was taken"
    assert reading.errors[0].startswith(f"x.yaml:{line}: ")
    assert words in reading.errors[0]
    assert len(reading.errors[0]) < 400
    assert reading.errors[0].isprintable()


def test_a_file_that_is_too_large_is_not_even_parsed(tmp_path):
    reading = read(tmp_path, GOOD + "#" * 100, SourceConfig(file_bytes_max=100))
    assert reading.errors == ("x.yaml:1: larger than 100 bytes",)
    assert read(tmp_path, GOOD, SourceConfig(file_bytes_max=len(GOOD))).errors == ()


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "directory.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    reader = Reader(SourceConfig())
    for name, words in [
        ("fifo.yaml", "not a regular file"),
        ("directory.yaml", "cannot be read: Is a directory"),
        ("loop.yaml", "cannot be read: Too many levels of symbolic links"),
        ("missing.yaml", "cannot be read: No such file or directory"),
    ]:
        assert asyncio.run(reader.read(tmp_path / name, name)).errors == (f"{name}:1: {words}",)


def test_every_fault_of_a_file_is_told_up_to_a_limit(tmp_path):
    reading = read(tmp_path, "---\n".join(["kind: x\n"] * 10), SourceConfig(errors_max=3))
    assert [each.split(":")[1] for each in reading.errors] == ["1", "3", "5", "7"]
    assert reading.errors[-1].endswith("and 7 more faults from here on")


def test_documents_lists_and_json_are_read_with_their_lines(tmp_path):
    text = (
        GOOD
        + "---\n# words\n---\napiVersion: v1\nkind: List\n"
        + "items:\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n"
    )
    reading = read(tmp_path, text)
    assert [(each.line, each.facts.title) for each in reading.placed] == [(1, "Namespace shop"), (10, "Namespace b")]
    named = '{"apiVersion":"v1","kind":"NamespaceList","metadata":{},\n"items":[{"metadata":{"name":"c"}}]}'
    reading = read(tmp_path, named)
    assert [(each.line, each.facts.title) for each in reading.placed] == [(2, "Namespace c")]
    assert titles(read(tmp_path, "\ufeff" + GOOD)) == ["Namespace shop"]
    assert read(tmp_path, "") == Reading()
    assert titles(read(tmp_path, "apiVersion: v1\nkind: PodList\nitems: null\n")) == []


def test_other_kinds_are_ignored_with_one_note_each(tmp_path, caplog):
    text = "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: apps/v1\nkind: Deployment\n---\n"
    text += "apiVersion: serving.knative.dev/v1\nkind: Service\n---\napiVersion: v2\nkind: Frob\n"
    with caplog.at_level(logging.INFO, "seine.source"):
        assert read(tmp_path, text) == Reading(text=text)
    assert [record.args for record in caplog.records] == [
        ("'Deployment of apps/v1'",),
        ("'Service of serving.knative.dev/v1'",),
        ("'Frob of v2'",),
    ]


def test_a_misspelt_name_is_told_with_its_line_and_the_object_is_taken(tmp_path):
    text = POD.format(fail="open", ip="fd00::1").replace("seine.dev/fail", "seine.dev/fial")
    reading = read(tmp_path, GOOD + "---\n" + text)
    assert reading.errors == ()
    assert titles(reading) == ["Namespace shop", "Pod default/a"]
    assert reading.warnings == (
        "x.yaml:10: Pod a: metadata.annotations[seine.dev/fial]: not known here and ignored; is seine.dev/fail meant?",
    )


def test_a_thousand_misspelt_names_are_a_few_sentences(tmp_path):
    names = "".join(f"    seine.dev/x{n}: y\n" for n in range(1000))
    text = f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  annotations:\n{names}"
    warnings = read(tmp_path, text, SourceConfig(errors_max=3)).warnings
    assert len(warnings) == 4
    assert warnings[-1] == "x.yaml:9: and 997 more such names from here on"


def test_the_loop_turns_while_a_large_file_is_read(tmp_path):
    """One document of a List, and many documents: neither holds the others up for as long as it takes."""
    items = "".join(f"- {{apiVersion: v1, kind: Namespace, metadata: {{name: n{n}}}}}\n" for n in range(3000))
    (tmp_path / "x.yaml").write_text("apiVersion: v1\nkind: List\nitems:\n" + items)

    async def turns() -> int:
        reading = asyncio.create_task(Reader(SourceConfig()).read(tmp_path / "x.yaml", "x.yaml"))
        count = 0
        while not reading.done():
            await asyncio.sleep(0)
            count += 1
        assert len(reading.result().placed) == 3000
        return count

    assert asyncio.run(turns()) >= 5


DEMO = sorted((Path(__file__).resolve().parents[3] / "deploy/demo").glob("*.yaml"))
SPLICES = [b"", b"\0", b"\xff", b"[", b"{", b"*x", b"&x ", b"!t ", b": ", b"- ", b"\n", b"~", b"null", b"-1", b"1e999"]
SPLICES += [
    b"9" * 30,
    b"<<: ",
    b"? ",
    b"|\n",
    b'"',
    b"'",
    b"#",
    b"---\n",
    b"kind: List\n",
    b"items:\n",
    b"true",
    b".inf",
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(DEMO),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(SPLICES)), min_size=1, max_size=4),
)
def test_a_damaged_file_is_taken_or_refused_and_nothing_else(tmp_path, original, wounds):
    content = original.read_bytes()
    for where, cut, splice in wounds:
        at = int(where * len(content))
        content = content[:at] + splice + content[at + cut :]
    reading = read(tmp_path, content)
    lines = content.count(b"\n") + 1
    assert all(1 <= int(each.split(":")[1]) <= lines for each in reading.errors)
    assemble(reading.placed)
