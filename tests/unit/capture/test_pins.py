"""Generations and layouts: what counts as a change of the pinned maps, and of which."""

from __future__ import annotations

import pytest

from mesh.capture.kernel import SOURCE
from mesh.capture.pins import generation, layouts

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
        *("homes", "ends", "shortcuts", "lanes"),
    }
