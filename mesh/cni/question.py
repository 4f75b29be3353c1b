"""What the plugin sends when a pod's network was made -> values. Pure; the layout is stated in cext/cni/ask.h.

The plugin is root's own process and hands on what the container runtime gave it, but other plugins wrote some of it:
nothing is taken for granted, and every name has a bound. Sources: CNI specification 1.1.0 ("Success"), and the
arguments that kubelet's runtimes put into CNI_ARGS.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from mesh.model import Value

QUESTION_BYTES_MAX = (1 << 20) + (1 << 14)  # what the plugin takes from its standard input, and its variables
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
UID = re.compile(r"[A-Za-z0-9-]{1,64}")


class BadQuestion(ValueError):
    """A sentence for the operator."""


class Question(Value):
    namespace: str
    name: str
    uid: str
    addresses: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.namespace}/{self.name}"


class _Interface(msgspec.Struct):
    sandbox: str = ""


class _Address(msgspec.Struct):
    address: str
    interface: int | None = None


class _Result(msgspec.Struct):
    interfaces: list[_Interface] | None = None
    ips: list[_Address] | None = None


class _Configuration(msgspec.Struct, rename="camel"):
    prev_result: _Result


def read(content: bytes) -> Question:
    """Raises BadQuestion."""
    said, ended, configuration = content.partition(b"\0\0")
    variables = dict(part.partition(b"=")[::2] for part in said.split(b"\0"))
    if not ended or variables.get(b"CNI_COMMAND") != b"ADD":
        raise BadQuestion("it is no question about a new pod")
    arguments = dict(part.partition(b"=")[::2] for part in variables.get(b"CNI_ARGS", b"").split(b";"))
    return Question(
        namespace=_word(arguments, "K8S_POD_NAMESPACE", NAME),
        name=_word(arguments, "K8S_POD_NAME", NAME),
        uid=_word(arguments, "K8S_POD_UID", UID),
        addresses=_addresses(configuration),
    )


def _word(arguments: dict[bytes, bytes], name: str, pattern: re.Pattern[str]) -> str:
    text = arguments.get(name.encode(), b"").decode("ascii", "replace")
    if not pattern.fullmatch(text):
        raise BadQuestion(f"CNI_ARGS has {text[:80]!r} as {name}")
    return text


def _addresses(configuration: bytes) -> tuple[str, ...]:
    """Those inside the pod: interfaces without a sandbox are the node's ends."""
    try:
        result = msgspec.json.decode(configuration, type=_Configuration).prev_result
    except msgspec.DecodeError as error:
        raise BadQuestion(f"the network's result cannot be read: {error}") from None
    outside = {number for number, each in enumerate(result.interfaces or ()) if not each.sandbox}
    found = []
    for each in result.ips or ():
        if each.interface is None or each.interface not in outside:
            try:
                found.append(str(ipaddress.ip_interface(each.address).ip))
            except ValueError:
                raise BadQuestion(f"the network's result has {each.address[:80]!r} as an address") from None
    if not found:
        raise BadQuestion("the network's result has no address of the pod")
    return tuple(dict.fromkeys(found))
