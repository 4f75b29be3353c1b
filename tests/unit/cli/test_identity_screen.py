from __future__ import annotations

from rich.console import Console, RenderableType

from mesh.cli.identity_screen import rotation, screen
from mesh.observe.status import IdentityStatus, Rotation
from tests.unit.observe.values import identity


def printed(what: RenderableType) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_a_node_without_pods_and_without_an_authority_says_so() -> None:
    text = printed(screen(IdentityStatus(authority="directory /x", problem="/x: Read-only file system"), 1000.0))
    assert "authority: directory /x, never answered" in text
    assert "no identities: no pod of this node is in the mesh" in text
    assert "no roots: /x: Read-only file system" in text


def test_what_remains_is_seen_from_now() -> None:
    assert " 1m " in printed(screen(identity(), 1000.0))
    assert "answered 10s ago" in printed(screen(identity(), 1000.0))


def test_a_rotation_that_concerns_nobody_is_a_sentence() -> None:
    assert printed(rotation(Rotation(step="none", sentence="a new root would join"), 0.0)) == "a new root would join\n"
