"""The CNI plugin as a container runtime calls it: by variables and standard input, with agents good, bad and absent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mesh.cni import PLUGIN
from tests.cni import build
from tests.cni.agent import Agent
from tests.kit.wait import eventually

# Spaces, escapes and order as no printer of ours would write them.
RESULT = '{ "cniVersion":"1.0.0",\n "ips" : [ {"address":"10.1.2.3\\u002f24", "x": [1e5, -0.5, null, true] } ] }'
ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=6f1c0a52-77aa"
LIFE_SECONDS = 30.0  # six times the plugin's own deadline


@dataclass
class Plugin:
    path: Path
    folder: Path

    def configuration(self, result: str | None = RESULT, **fields: object) -> str:
        own: dict[str, object] = {"socket": str(self.socket), "rules": str(self.rules), "exempt": "seine-system"}
        text = json.dumps({"cniVersion": "1.0.0", "name": "pods", "type": "seine-cni", **own, **fields})
        return text if result is None else f'{text[:-1]}, "prevResult": {result}}}'

    @property
    def socket(self) -> Path:
        return self.folder / "cni.sock"

    @property
    def rules(self) -> Path:
        return self.folder / "cni.rules"

    def run(
        self, configuration: str | bytes | None = None, command: str | None = "ADD", args: str = ARGS
    ) -> subprocess.CompletedProcess[bytes]:
        text = self.configuration() if configuration is None else configuration
        variables = {"CNI_CONTAINERID": "c0", "CNI_NETNS": "/proc/self/ns/net", "CNI_IFNAME": "eth0", "CNI_ARGS": args}
        if command is not None:
            variables["CNI_COMMAND"] = command
        content = text.encode() if isinstance(text, str) else text
        return subprocess.run(
            [self.path], input=content, env=variables, capture_output=True, timeout=LIFE_SECONDS, check=False
        )

    def starts(self, **given: str) -> None:
        """The pod starts, with the network that it was given."""
        done = self.run(**given)
        assert (done.returncode, done.stdout.decode()) == (0, f"{RESULT}\n"), done.stderr

    def fails(
        self, code: int, *words: str, configuration: str | bytes | None = None, command: str | None = "ADD"
    ) -> None:
        done = self.run(configuration, command)
        error = json.loads(done.stdout)
        assert done.returncode == 1, done
        assert error["code"] == code
        assert all(word in error["msg"] for word in words), error
        assert isinstance(error["cniVersion"], str)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.sanitized(tmp_path_factory.mktemp("sanitized"))


@pytest.fixture(params=["shipped", "sanitized"])
def plugin(request: pytest.FixtureRequest, sanitized: Path, tmp_path: Path) -> Plugin:
    return Plugin(PLUGIN if request.param == "shipped" else sanitized, tmp_path)


def test_what_is_shipped_needs_nothing_of_its_node():
    listed = subprocess.run(["ldd", str(PLUGIN)], capture_output=True, text=True, check=False)
    assert "not a dynamic executable" in listed.stdout + listed.stderr
    assert PLUGIN.stat().st_size < 1 << 20


# --- an agent that answers


def test_a_pod_that_the_agent_has_taken_in_starts_and_its_network_is_what_it_was(plugin: Plugin) -> None:
    with Agent(plugin.socket, b"+") as agent:
        plugin.starts()
    said, _, configuration = agent.asked[0].partition(b"\0\0")
    assert b"CNI_COMMAND=ADD" in said.split(b"\0")
    assert f"CNI_ARGS={ARGS}".encode() in said.split(b"\0")
    assert configuration.decode() == plugin.configuration()
    assert agent.namespaces == [os.stat("/proc/self/ns/net").st_ino]


def test_a_pod_that_the_agent_refuses_does_not_start_and_kubelet_hears_why(plugin: Plugin) -> None:
    sentence = b'-all places are taken, "really"\\ \xc3\xa4'
    with Agent(plugin.socket, sentence):
        plugin.fails(11, "all places are taken, ?really??")


def test_a_large_configuration_is_asked_about_whole(plugin: Plugin) -> None:
    text = plugin.configuration(padding="x" * 900_000)
    with Agent(plugin.socket, b"+") as agent:
        plugin.starts(configuration=text)
    assert agent.asked[0].endswith(text.encode())


def test_our_own_namespace_and_what_is_not_of_kubernetes_is_never_asked_about(plugin: Plugin) -> None:
    plugin.rules.write_text("closed seine-system\nclosed shop\n")
    with Agent(plugin.socket, b"-never") as agent:
        plugin.starts(args=ARGS.replace("shop", "seine-system"))
        plugin.starts(args="")
        plugin.starts(args="IgnoreUnknown=1")
    assert agent.asked == []


# --- an agent that does not


def slam(sock: socket.socket) -> None:
    """In the middle of the question."""
    sock.recv(10)


AWAY = {
    "dies in the middle of the question": slam,
    "dies before its answer": b"",
    "says nonsense": b"?",
    "says too much": b"+" * 5000,
    "refuses without an end": b"-" + b"x" * 5000,
}


@pytest.mark.parametrize("answer", AWAY.values(), ids=AWAY)
def test_without_a_whole_answer_a_pod_starts(plugin: Plugin, answer) -> None:
    with Agent(plugin.socket, answer):
        plugin.starts()


def test_without_an_agent_a_pod_starts_and_the_log_says_so(plugin: Plugin) -> None:
    assert b"starts without the agent" in plugin.run().stderr
    plugin.socket.touch()  # what a dead agent leaves
    plugin.starts()


def test_an_agent_that_hangs_holds_up_a_pod_for_a_while_and_no_longer(plugin: Plugin) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(plugin.socket))
        listener.listen(1)
        plugin.starts()
        plugin.rules.write_text("closed shop\n")
        plugin.fails(11, "no answer in time", "shop")


def test_an_agent_of_somebody_else_is_not_asked(plugin: Plugin) -> None:
    """Whoever can make a socket there could tell kubelet not to start pods."""
    code = f"import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.bind({str(plugin.socket)!r})"
    code += "; s.listen(4); c, _ = s.accept(); print(len(c.recv(9)), flush=True)"
    for folder in (plugin.folder, *plugin.folder.parents[:3]):
        folder.chmod(0o777)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        eventually(plugin.socket.exists, "the other's socket", 10)
        try:
            plugin.starts()
        finally:
            said, _ = other.communicate(timeout=LIFE_SECONDS)
    assert said == b"0\n"


# --- rules, for the time without an agent


def test_without_an_agent_a_pod_of_a_closed_namespace_waits(plugin: Plugin) -> None:
    plugin.rules.write_text("closed other\nclosed shop\n")
    plugin.fails(11, "does not answer", "namespace shop")
    plugin.starts(args=ARGS.replace("shop", "shops"))
    with Agent(plugin.socket, b"+"):
        plugin.starts()


def test_rules_that_root_alone_did_not_write_are_not_believed(plugin: Plugin) -> None:
    plugin.rules.write_text("closed shop\n")
    plugin.rules.chmod(0o666)
    plugin.starts()
    plugin.rules.chmod(0o644)
    os.chown(plugin.rules, 65534, 0)
    plugin.starts()
    os.chown(plugin.rules, 0, 0)
    plugin.fails(11)
    plugin.rules.rename(plugin.folder / "elsewhere")
    plugin.rules.symlink_to(plugin.folder / "elsewhere")
    plugin.starts()
    plugin.rules.unlink()
    os.mkfifo(plugin.rules)
    plugin.starts()


# --- bad input

GARBAGE = (
    b"",
    b"\0",
    b"null",
    b"[]",
    b"{",
    b'{"a"}',
    b'{"a":}',
    b'{"a":1,}',
    b'{"a":1}x',
    b'{"a":01}',
    b'{"a":.5}',
    b'{"a":1.}',
    b'{"a":1e}',
    b'{"a":"\\x"}',
    b'{"a":"\\u12g4"}',
    b'{"a":"\n"}',
    b'{"a":"',
    b'{"a":"\\',
    b"{'a':1}",
    b'{"a":tru}',
    b"\xef\xbb\xbf{}",
    b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"x" * ((1 << 20) + 1),
)


@pytest.mark.parametrize("content", GARBAGE, ids=lambda content: repr(content[:20]))
def test_what_is_no_configuration_is_refused_in_the_specifications_words(plugin: Plugin, content: bytes) -> None:
    plugin.fails(6, "no JSON object", configuration=content)


def test_a_configuration_that_nothing_can_be_done_with_is_refused(plugin: Plugin) -> None:
    plugin.fails(7, "prevResult", configuration=plugin.configuration(None))
    plugin.fails(7, "prevResult", configuration=plugin.configuration("null"))
    for field in ("socket", "rules", "exempt"):
        for bad in (None, 7, "back\\slash", "x" * 300):
            given: dict[str, Any] = {field: bad}
            plugin.fails(7, "plain strings", configuration=plugin.configuration(**given))
    plugin.fails(4, "CNI_COMMAND", command=None)
    plugin.fails(4, "MULTIPLY", command="MULTIPLY")


def test_a_network_namespace_that_is_not_there_is_the_runtimes_to_tell(plugin: Plugin) -> None:
    variables = {"CNI_COMMAND": "ADD", "CNI_ARGS": ARGS, "CNI_NETNS": "/no/such"}
    with Agent(plugin.socket, b"-never") as agent:
        done = subprocess.run([plugin.path], input=plugin.configuration().encode(), env=variables, capture_output=True)
    assert (done.returncode, agent.asked) == (0, [])
    assert b"CNI_NETNS" in done.stderr


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), json_values, max_size=4), st.booleans(), st.integers(0, 4))
@example({}, True, 0)
def test_every_result_is_handed_on_as_it_was_written(
    sanitized: Path, tmp_path: Path, result, ascii: bool, indent
) -> None:
    plugin = Plugin(sanitized, tmp_path)
    text = json.dumps(result, ensure_ascii=ascii, indent=indent or None)
    if not text.isascii() and max(text) >= "\ud800":
        text = json.dumps(result)
    done = plugin.run(plugin.configuration(text).encode("utf-8", "surrogatepass"))
    assert (done.returncode, done.stdout.decode()) == (0, f"{text}\n")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_configuration_is_judged_as_any_other_reader_would(sanitized: Path, tmp_path: Path, data) -> None:
    plugin = Plugin(sanitized, tmp_path)
    content = bytearray(plugin.configuration().encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.sampled_from(b'{}[]",:\\0x1e.-nul \n\x00\xff')
        )
    done = plugin.run(bytes(content))
    try:
        good = isinstance(json.loads(content.decode("latin-1")), dict)
    except ValueError:
        good = False
    assert done.returncode in (0, 1), done.stderr
    decoded = done.returncode == 0 or json.loads(done.stdout)["code"] != 6
    assert decoded == good, bytes(content)


# --- the other commands


def test_versions_are_told(plugin: Plugin) -> None:
    done = plugin.run('{"cniVersion": "0.4.0"}', "VERSION")
    said = json.loads(done.stdout)
    assert done.returncode == 0
    assert said["cniVersion"] == "0.4.0"
    assert {"0.3.1", "1.0.0", "1.1.0"} <= set(said["supportedVersions"])


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_the_rest_needs_no_agent_and_says_nothing(plugin: Plugin, command: str) -> None:
    with Agent(plugin.socket, b"-never") as agent:
        done = plugin.run(command=command)
    assert (done.returncode, done.stdout, agent.asked) == (0, b"", [])
