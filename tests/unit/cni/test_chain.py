"""Program and entry on disk: the order, the contest with others, the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.cni import chain
from mesh.cni.chain import Chain, ChainError, Paths, remove
from mesh.cni.conflist import TYPE, entry

BRIDGE = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}
OURS = entry("/s", "/r", "seine-system")


class Disk:
    def __init__(self, folder: Path) -> None:
        self.conf, self.bin, self.plugin = folder / "net.d", folder / "bin", folder / "plugin"
        self.paths = Paths(self.conf, self.bin, folder / "rules")
        self.conf.mkdir()
        self.bin.mkdir()
        self.plugin.write_bytes(b"\x7fELF 1")
        self.list = self.conf / "10-bridge.conflist"
        self.list.write_text(json.dumps(BRIDGE))
        self.chain = self.again()

    def again(self) -> Chain:
        return Chain(self.paths, OURS, self.plugin)

    @property
    def program(self) -> Path:
        return self.bin / TYPE

    def types(self, path: Path | None = None) -> list[str]:
        return [each["type"] for each in json.loads((path or self.list).read_text())["plugins"]]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_program_and_entry_are_put_in_and_stay_as_they_are(disk: Disk):
    disk.list.chmod(0o600)
    assert disk.chain.ensure() == []
    assert disk.types() == ["bridge", TYPE]
    assert disk.program.read_bytes() == b"\x7fELF 1"
    assert disk.program.stat().st_mode & 0o777 == 0o755
    assert disk.list.stat().st_mode & 0o777 == 0o600
    assert disk.chain.path == str(disk.list)
    before = disk.list.stat(), disk.program.stat()
    assert disk.chain.ensure() == disk.again().ensure() == []
    assert (disk.list.stat(), disk.program.stat()) == before


def test_the_program_is_there_before_the_entry_and_goes_after_it(disk: Disk, monkeypatch: pytest.MonkeyPatch):
    """Seen at each change of a file: never the entry without the program."""
    changes = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        changes.append(target.name)
        assert TYPE not in disk.types() or disk.program.exists()

    monkeypatch.setattr(Path, "replace", replace)
    disk.chain.ensure()
    assert changes == [TYPE, disk.list.name]
    real_unlink = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        assert TYPE not in disk.types()
        real_unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    removed = remove(disk.paths)
    assert len(removed) == 2
    assert not disk.program.exists()
    assert json.loads(disk.list.read_text()) == BRIDGE
    assert remove(disk.paths) == []


CONTESTS: dict[str, tuple[Callable[[Disk], object], str]] = {
    "written anew without us": (lambda disk: disk.list.write_text(json.dumps(BRIDGE)), "lost our entry"),
    "our program removed": (lambda disk: disk.program.unlink(), "was gone"),
    "our program replaced": (lambda disk: disk.program.write_bytes(b"other"), "or another"),
    "another configuration in front": (
        lambda disk: (disk.conf / "05-cilium.conflist").write_text(json.dumps(BRIDGE)),
        "is the network configuration now",
    ),
}


@pytest.mark.parametrize(("contest", "sentence"), CONTESTS.values(), ids=CONTESTS)
def test_what_somebody_takes_away_is_put_back_and_said(disk: Disk, contest, sentence):
    disk.chain.ensure()
    contest(disk)
    (mended,) = disk.chain.ensure()
    assert sentence in mended
    assert TYPE in disk.types(Path(disk.chain.path))
    assert disk.program.read_bytes() == disk.plugin.read_bytes()
    assert disk.chain.ensure() == []


def test_a_program_that_may_not_be_run_may_be_again(disk: Disk):
    disk.chain.ensure()
    disk.program.chmod(0o644)
    disk.chain.ensure()
    assert disk.program.stat().st_mode & 0o777 == 0o755


def test_a_new_version_replaces_program_and_entry_without_a_word(disk: Disk):
    Chain(disk.paths, entry("/old", "/old", "old"), disk.plugin).ensure()
    disk.plugin.write_bytes(b"\x7fELF 2")
    assert disk.again().ensure() == []
    assert json.loads(disk.list.read_text())["plugins"][1] == OURS
    assert disk.program.read_bytes() == b"\x7fELF 2"


def test_a_node_without_a_network_yet_is_waited_for(disk: Disk):
    disk.list.unlink()
    (disk.conf / "README").write_text("hello")
    with pytest.raises(ChainError, match="no network configuration"):
        disk.chain.ensure()
    assert disk.program.exists()
    (disk.conf / "10-empty.conflist").write_text("")  # runtimes go on to the next
    disk.list.write_text(json.dumps(BRIDGE))
    assert disk.chain.ensure() == []
    assert disk.types() == ["bridge", TYPE]


TROUBLES: dict[str, tuple[Callable[[Disk], object], str]] = {
    "of a single plugin": (lambda disk: (disk.conf / "05-x.conf").write_text('{"type": "x"}'), "single plugin"),
    "no JSON": (lambda disk: disk.list.write_text("{"), "no JSON"),
    "a link": (lambda disk: (disk.conf / "05-x.conflist").symlink_to(disk.list), "symbolic link"),
    "no folder for programs": (lambda disk: disk.bin.rmdir(), "No such file"),
    "no folder for configurations": (lambda disk: shutil.rmtree(disk.conf), "no network configuration"),
}


@pytest.mark.parametrize(("trouble", "sentence"), TROUBLES.values(), ids=TROUBLES)
def test_what_cannot_be_done_is_a_sentence_and_nothing_is_harmed(disk: Disk, trouble, sentence):
    trouble(disk)
    before = {path: path.read_bytes() for path in disk.conf.glob("*")} if disk.conf.exists() else {}
    with pytest.raises(ChainError, match=sentence):
        disk.chain.ensure()
    for path, content in before.items():
        assert path.read_bytes() == content


def test_leftovers_of_a_killed_agent_go_with_the_rest(disk: Disk):
    disk.chain.ensure()
    for folder in (disk.conf, disk.bin):
        (folder / f".{TYPE}-x").write_text("half")
    remove(disk.paths)
    assert {path.name for folder in (disk.conf, disk.bin) for path in folder.iterdir()} == {disk.list.name}


def test_the_program_stays_while_an_entry_cannot_be_taken_out(disk: Disk, monkeypatch: pytest.MonkeyPatch):
    disk.chain.ensure()

    def refuse(path: Path, content: bytes, mode: int) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(chain, "write", refuse)
    with pytest.raises(ChainError, match="Permission denied"):
        remove(disk.paths)
    assert disk.program.exists()


def test_where_it_was_put_is_found_again_by_whoever_cleans(disk: Disk, tmp_path: Path):
    assert Paths.noted(tmp_path / "note") is None
    disk.paths.note(tmp_path / "note")
    assert Paths.noted(tmp_path / "note") == disk.paths
    disk.chain.ensure()
    disk.paths.rules.write_text("closed shop\n")
    remove(disk.paths)
    assert not disk.paths.rules.exists()
