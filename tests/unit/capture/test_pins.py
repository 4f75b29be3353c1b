"""Generations and layouts: what counts as a change of the pinned maps, and of which. And where cgroup2's root is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.capture.kernel import SOURCE
from mesh.capture.objects import KernelError
from mesh.capture.pins import cgroup2_root, generation, layouts

TYPES = """
enum limit { A_MAX = 3 };
struct inner { __u32 ip[4]; /* network order */
};
struct outer {
    struct inner inner;
    __u32 kind;
};
struct other {
    __u64 count;
};
"""
MAPS = """
/* One sentence. */
BPF_TABLE("array", u32, struct outer, first, A_MAX);
BPF_F_TABLE("hash", struct inner, u8, second, A_MAX, BPF_F_NO_PREALLOC);
BPF_SK_STORAGE(third, struct outer);
BPF_TABLE("array", u32, struct other, fourth, A_MAX);
BPF_SOCKHASH(fifth, struct inner, A_MAX);
"""


def changed(types: str, maps: str = MAPS) -> set[str]:
    before, after = layouts(TYPES, MAPS), layouts(types, maps)
    return {name for name in before if before[name] != after.get(name)}


def test_every_map_has_a_layout():
    assert list(layouts(TYPES, MAPS)) == ["first", "second", "third", "fourth", "fifth"]


def test_comments_and_space_do_not_count():
    types = TYPES.replace("network order", "in network order").replace("    __u32", "        __u32")
    maps = MAPS.replace("One sentence", "Another")
    assert generation(types, maps) == generation(TYPES, MAPS)
    assert changed(types, maps) == set()


@pytest.mark.parametrize(
    ("old", "new", "maps"),
    [
        ("__u32 kind", "__u64 kind", {"first", "third"}),
        ("__u32 ip[4]", "__u8 ip[16]", {"first", "second", "third", "fifth"}),
        ("__u64 count", "__u64 amount", {"fourth"}),
        ("A_MAX = 3", "A_MAX = 4", set()),  # a size is asked of the kernel
    ],
)
def test_a_struct_counts_for_the_maps_that_are_made_of_it(old, new, maps):
    types = TYPES.replace(old, new)
    assert changed(types) == maps
    assert generation(types, MAPS) != generation(TYPES, MAPS)


def test_a_maps_own_line_counts_for_it():
    assert changed(TYPES, MAPS.replace("first, A_MAX", "first, 7")) == {"first"}


def test_the_real_sources_have_a_layout_for_every_map():
    types, maps = (SOURCE / "types.h").read_text(), (SOURCE / "maps.h").read_text()
    assert set(layouts(types, maps)) == {
        *("slots", "pods", "port_rules", "listeners", "destinations", "backends"),
        *("notes", "flows", "heartbeat", "settings", "counters"),
        *("homes", "ends", "shortcuts", "lanes", "probes"),
    }


OWN_PART = "30 29 0:26 /kubepods/pod1/c1 /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw"
HOSTS_ROOT = "31 29 0:26 / /host/a\\040cgroup rw master:9 - cgroup2 cgroup2 rw"
OTHER = "28 29 0:24 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory"


def test_cgroup2s_root_is_the_mount_that_shows_all_of_it():
    assert cgroup2_root(f"{OTHER}\n{OWN_PART}\n{HOSTS_ROOT}\n") == Path("/host/a cgroup")


def test_a_container_without_the_hosts_cgroups_is_told_what_it_needs():
    with pytest.raises(KernelError, match="/sys/fs/cgroup is only a part of cgroup2: a container needs the host's"):
        cgroup2_root(OWN_PART)


def test_a_machine_without_cgroup2_is_told_so():
    with pytest.raises(KernelError, match="no cgroup2 file system is mounted"):
        cgroup2_root(OTHER)
