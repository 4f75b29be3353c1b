"""What an installation remembers, and how far apart two versions may be."""

from __future__ import annotations

import pytest

from mesh.install.upgrade import apart, kept, record
from mesh.install.values import VERSION, BadValue, Values


def test_an_upgrade_keeps_what_was_chosen_and_takes_what_is_said_now() -> None:
    data = record(Values(namespace="mesh", workers=4, monitors=True, image="here.example/seine:9"))["data"]
    assert all(isinstance(each, str) for each in data.values())
    assert kept(data, []) == (Values(namespace="mesh", workers=4, monitors=True, image="here.example/seine:9"), [])
    assert kept(data, ["workers=3"])[0].workers == 3


def test_the_old_versions_own_image_becomes_the_new_ones() -> None:
    assert kept({"version": "0.0.9", "image": "seine.dev/seine:0.0.9"}, [])[0].image == Values().image


def test_what_this_version_does_not_know_is_told_and_what_it_cannot_be_is_refused() -> None:
    assert kept({"version": VERSION, "colour": "blue"}, []) == (Values(), ["colour=blue means nothing to this version"])
    with pytest.raises(BadValue, match="workers is 99"):
        kept({"workers": "99"}, [])


@pytest.mark.parametrize(
    ("former", "now", "sentence"),
    [
        ("0.1.0", "0.1.7", ""),
        ("0.1.0", "0.2.0", ""),
        ("0.2.3", "0.1.0", ""),
        ("0.1.0", "0.3.0", "one minor version at a time"),
        ("0.9.0", "1.0.0", "one minor version at a time"),
        ("", "0.1.0", "no version"),
    ],
)
def test_neighbours_only(former: str, now: str, sentence: str) -> None:
    assert sentence in apart(former, now)
    assert bool(sentence) == bool(apart(former, now))
