"""A directory followed: what settles counts, what is bad leaves the last good objects where they are."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from mesh.config import SourceConfig
from mesh.control import compile_destinations, compile_plans, conflicts
from mesh.kube import DirectorySource
from mesh.model import Protocol, Snapshot

DEMO = Path(__file__).resolve().parents[3] / "deploy/demo"


def pod(name: str, ip: str) -> str:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nstatus: {{podIP: {ip}}}\n"


class Followed:
    """A source and the last snapshot it gave."""

    def __init__(self, directory: Path, **settings) -> None:
        self.directory = directory
        self.source = DirectorySource(directory, **settings)
        self.snapshot = Snapshot()
        self.look()

    def look(self) -> bool:
        found = asyncio.run(self.source.poll())
        if found is not None:
            self.snapshot = found
        return found is not None

    def settle(self) -> None:
        self.look()
        self.look()

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        self.settle()

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.snapshot.workloads]


@pytest.fixture
def followed(tmp_path) -> Followed:
    (tmp_path / "a.yaml").write_text(pod("a", "10.0.0.1"))
    return Followed(tmp_path)


def test_what_is_there_is_given_at_once(followed):
    assert followed.names == ["a"]
    assert not followed.look(), "nothing changed"


def test_files_come_change_and_go(followed):
    followed.write("b.yaml", pod("b", "10.0.0.2"))
    assert followed.names == ["a", "b"]
    followed.write("b.yaml", pod("c", "10.0.0.2"))
    assert followed.names == ["a", "c"]
    (followed.directory / "a.yaml").unlink()
    followed.settle()
    assert followed.names == ["c"]


def test_a_bad_file_keeps_its_last_good_objects_and_is_told(followed):
    followed.write("b.yaml", pod("b", "10.0.0.2") + "---\n" + pod("c", "10.0.0.3"))
    followed.write("b.yaml", pod("b", "10.0.0.9") + "---\n" + pod("c", "nowhere"))
    assert followed.names == ["a", "b", "c"]
    assert [each.addresses for each in followed.snapshot.workloads][1] == ("10.0.0.2",), "taken whole or not at all"
    (error,) = followed.snapshot.errors
    assert error == f"{followed.directory}/b.yaml:9: Pod c: status.podIP: 'nowhere' is not an IP address"
    followed.write("b.yaml", pod("b", "10.0.0.9"))
    assert followed.names == ["a", "b"]
    assert followed.snapshot.errors == ()


def test_a_misspelt_name_is_told_as_long_as_it_is_there(followed):
    text = pod("b", "10.0.0.2").replace("{name: b}", "{name: b, annotations: {seine.dev/fial: closed}}")
    followed.write("b.yaml", text)
    assert followed.names == ["a", "b"]
    (warning,) = followed.snapshot.warnings
    assert warning.startswith(f"{followed.directory}/b.yaml:3: Pod b: metadata.annotations[seine.dev/fial]: not known")
    followed.write("b.yaml", "b: [\n")
    assert followed.snapshot.warnings == (warning,), "of what still serves"
    followed.write("b.yaml", pod("b", "10.0.0.2"))
    assert followed.snapshot.warnings == ()


def test_the_age_of_the_source_is_that_of_the_last_look_whether_or_not_something_changed(tmp_path):
    now = 100.0
    source = DirectorySource(tmp_path / "source", clock=lambda: now)
    (tmp_path / "source").mkdir()
    for now in (101.0, 102.0):
        asyncio.run(source.poll())
        assert source.looked_at == now
    shutil.rmtree(tmp_path / "source")
    now = 103.0
    asyncio.run(source.poll())
    assert source.looked_at == 102.0, "it could not be read"


def test_a_bad_file_does_not_keep_others_from_changing(followed):
    followed.write("b.yaml", "a: [\n")
    followed.write("a.yaml", pod("z", "10.0.0.1"))
    assert followed.names == ["z"]
    assert len(followed.snapshot.errors) == 1


def test_a_half_written_file_is_left_to_settle(followed):
    """Each look sees another state of it; only what two looks running saw alike counts."""
    target = followed.directory / "a.yaml"
    for text in ("", "apiVersion: v1\n", pod("b", "10.0.0.2")[:-20], pod("b", "10.0.0.2")):
        target.write_text(text)
        os.utime(target, ns=(len(text), len(text)))  # a clock of its own, not the file system's
        assert not followed.look()
        assert followed.names == ["a"]
    assert followed.look()
    assert followed.names == ["b"]


def test_a_file_away_for_a_moment_while_it_is_saved_does_not_flap(followed):
    (followed.directory / "a.yaml").rename(followed.directory / "a.yaml~")
    assert not followed.look()
    (followed.directory / "a.yaml").write_text(pod("a", "10.0.0.7"))
    followed.settle()
    assert followed.snapshot.workloads[0].addresses == ("10.0.0.7",)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_seen(followed):
    old = (followed.directory / "a.yaml").stat()
    fresh = followed.directory / ".fresh"
    fresh.write_text(pod("a", "10.0.0.2"))
    os.utime(fresh, ns=(old.st_mtime_ns, old.st_mtime_ns))
    fresh.replace(followed.directory / "a.yaml")
    followed.settle()
    assert followed.snapshot.workloads[0].addresses == ("10.0.0.2",)


def test_a_configmap_swap_is_followed(tmp_path):
    """Kubelet's way: files are links through `..data`, which is swapped by one rename."""
    for version, ip in (("..1", "10.0.0.1"), ("..2", "10.0.0.2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(pod("a", ip))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    followed = Followed(tmp_path)
    assert followed.snapshot.workloads[0].addresses == ("10.0.0.1",)
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "..1")
    followed.settle()
    assert followed.snapshot.workloads[0].addresses == ("10.0.0.2",)
    assert followed.names == ["a"]


def test_backups_hidden_and_other_files_are_not_looked_at(followed):
    for name in (".b.yaml", "b.yaml~", "b.yaml.swp", "#b.yaml#", "#b.yaml", "README.md", "4913"):
        (followed.directory / name).write_text("not: [ours")
    followed.settle()
    assert followed.snapshot.errors == ()


def test_an_unreadable_directory_leaves_everything_as_it_was(followed):
    away = followed.directory.with_name("away")
    followed.directory.rename(away)
    followed.settle()
    assert followed.names == ["a"]
    assert followed.snapshot.errors == (
        f"{followed.directory}: cannot be read (No such file or directory); what was known stays",
    )
    away.rename(followed.directory)
    followed.settle()
    assert followed.snapshot.errors == ()


def test_a_directory_that_comes_later_is_read_when_it_comes(tmp_path):
    followed = Followed(tmp_path / "later")
    assert "cannot be read" in followed.snapshot.errors[0]
    shutil.copytree(DEMO, tmp_path / "later")
    followed.look()
    assert len(followed.names) == 4


def test_a_link_to_nowhere_is_told_and_keeps_what_was_there(followed):
    target = followed.directory / "a.yaml"
    target.unlink()
    target.symlink_to("nowhere")
    followed.settle()
    assert followed.names == ["a"]
    assert followed.snapshot.errors == (f"{target}:1: cannot be read: No such file or directory",)


def test_more_files_than_the_limit_are_told(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.yaml").write_text(pod(f"p{number}", f"10.0.0.{number}") if number else "")
    followed = Followed(tmp_path, config=SourceConfig(files_max=3))
    assert followed.names == ["p1", "p2"]
    assert "more than 3 files; 3.yaml and later are not read" in followed.snapshot.errors[0]


def test_duplicates_over_files_name_both_places_and_the_older_stays(followed):
    followed.write("0.yaml", "\n" + pod("a", "10.0.0.5"))
    assert followed.snapshot.workloads[0].addresses == ("10.0.0.1",)
    first, second = (f"{followed.directory}/{name}" for name in ("a.yaml", "0.yaml"))
    assert followed.snapshot.errors == (
        f"{second}:2: Pod default/a is already defined at {first}:1; this one is left out",
    )
    (followed.directory / "a.yaml").unlink()
    followed.settle()
    assert followed.snapshot.workloads[0].addresses == ("10.0.0.5",)
    assert followed.snapshot.errors == ()


# --- over restarts


def test_a_fault_at_the_start_is_no_outage_when_copies_are_kept(tmp_path):
    source, keep = tmp_path / "source", tmp_path / "run" / "keep"
    source.mkdir()
    (source / "a.yaml").write_text(pod("a", "10.0.0.1"))
    (source / "b.yaml").write_text(pod("b", "10.0.0.2"))
    assert Followed(source, keep=keep).names == ["a", "b"]
    (source / "a.yaml").write_text("a: [\n")
    (source / "b.yaml").unlink()
    again = Followed(source, keep=keep)
    assert again.names == ["a"], "the fault keeps its copy, the deletion does not"
    assert again.snapshot.errors[0].startswith(f"{source}/a.yaml:1: not YAML")
    again.write("b.yaml", "b: [\n")
    assert again.names == ["a"], "a later file of the same name has nothing to do with the copy"
    assert [each.name for each in keep.iterdir()] == ["a.yaml"]


def test_without_copies_a_file_that_was_never_good_gives_nothing(tmp_path):
    (tmp_path / "a.yaml").write_text(pod("a", "10.0.0.1") + "---\na: [\n")
    assert Followed(tmp_path).names == []


def test_no_room_for_copies_is_no_reason_to_stop(tmp_path, caplog):
    (tmp_path / "a.yaml").write_text(pod("a", "10.0.0.1"))
    (tmp_path / "file").write_text("")
    assert Followed(tmp_path, keep=tmp_path / "file" / "keep").names == ["a"]
    assert "no copy of a.yaml" in caplog.text


# --- as the agent uses it


def test_watch_gives_each_state_once(tmp_path):
    async def states() -> list[list[str]]:
        seen = []
        source = DirectorySource(tmp_path, config=SourceConfig(poll_seconds=0.01))
        async for snapshot in source.watch():
            seen.append([each.name for each in snapshot.workloads])
            if len(seen) == 3:
                return seen
            (tmp_path / "a.yaml").write_text(pod(f"p{len(seen)}", "10.0.0.1"))
        return seen

    assert asyncio.run(asyncio.wait_for(states(), 10)) == [[], ["p1"], ["p2"]]


def test_the_demo_is_what_it_says():
    snapshot = Followed(DEMO).snapshot
    assert (snapshot.errors, snapshot.warnings) == ((), ())
    assert conflicts(snapshot) == ()
    assert [(each.workload.name, each.enrolled, each.cgroup) for each in snapshot.pods] == [
        (name, True, f"seine-demo-pods/{name}") for name in ("client", "db", "web-fast", "web-slow")
    ]
    plans = compile_plans(snapshot, {"shop/web-fast": 1, "shop/web-slow": 2, "shop/db": 3}, {})
    assert [each.slot for each in plans["10.96.0.10", 80].endpoints] == [1, 2]
    assert [each.address for each in plans["fd00:96::10", 80].endpoints] == ["fd00:77::11", "fd00:77::12"]
    assert plans["10.96.0.10", 80].protocol is Protocol.HTTP
    assert plans["10.96.0.20", 5432].protocol is Protocol.OPAQUE
    assert len(compile_destinations(snapshot, {})) == 4 + 8 + 2
