import re
from pathlib import Path

import pytest

from mesh.errors import ENDINGS, MEANINGS, Flag


def test_every_flag_has_a_meaning_and_every_bad_one_an_ending():
    assert set(MEANINGS) == set(Flag)
    assert {ending.flag for ending in ENDINGS.values()} == set(Flag) - {Flag.NONE}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_is_consistent(name):
    ending = ENDINGS[name]
    assert ending.status == 0 or 400 <= ending.status <= 599
    assert ending.sentence
    assert not ending.sentence.endswith(".")
    if ending.flag is Flag.CLIENT_PROTOCOL:
        assert not ending.keep, "nobody knows where its next request would begin"
        assert 400 <= ending.status < 500 or ending.status in (501, 505)
    if ending.status == 0:
        assert not ending.keep, "without an answer only a reset tells the client"


def test_flags_are_the_engines_in_its_order():
    source = (Path(__file__).resolve().parents[2] / "cext/stats.h").read_text()
    listed = source.split("#define STATS_FLAGS(X)")[1].split("\n\n")[0]
    assert re.findall(r'X\(\w+, "([^"]+)"\)', listed) == [flag.value for flag in Flag]
