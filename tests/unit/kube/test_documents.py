"""The text layer: what YAML may say, where it said it, and how little a bomb can cost."""

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.config import SourceConfig
from mesh.kube.documents import BadDocument, Document, documents, resolve, shown

LIMITS = SourceConfig(values_max=1000)


def read(text: str, limits: SourceConfig = LIMITS) -> list[Document]:
    return [document for document in documents(text, limits) if document is not None]


def value(text: str) -> Any:
    (document,) = read(text)
    return document.value


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1,\n", 2, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: 1\nb: *x\n", 2, "alias *x"),
        ("a: &x [*x]\n", 1, "alias *x"),
        ("a: &x\n  b:\n    - *x\n", 3, "alias *x"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is here twice, first in line 1"),
        ("a: {x: ~, x: 1}\n", 1, "here twice"),
        ("base: &b {x: 1}\nc:\n  <<: *b\n", 3, "merge keys"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "tag"),
        ("a: !Ref x\n", 1, "tag '!Ref'"),
        ("a: !!binary aGk=\n", 1, "tag"),
        ("? [a, b]\n: 1\n", 1, "a key must be text"),
        ("? {a: b}\n: 1\n", 1, "a key must be text"),
        ("k: &x {a: 1}\n? *x\n: 1\n", 2, "a key must be text"),
        ("a: 1\n--- x\n%BAD\nb: 2\n---\n", 4, "not YAML"),
        ("ok: 1\n---\na: \x01\n", 3, "not YAML"),
        ("\n".join("- 1" for _ in range(1001)), 1000, "more than 1000 values"),
        ("---\n" * 3 + "a: 'never\nends\n", 4, "not YAML"),
    ],
)
def test_a_fault_is_told_with_its_line(text, line, words):
    with pytest.raises(BadDocument) as caught:
        read(text)
    assert words in caught.value.reason
    assert caught.value.line == line


def test_deep_nesting_is_refused_early_not_by_a_crash():
    began = time.process_time()
    for text in ("[" * 200_000, "{a: " * 200_000, "- " * 200_000, '{"a":' * 200_000):
        with pytest.raises(BadDocument, match="nested deeper than 64"):
            read(text)
    assert time.process_time() - began < 5, "libyaml alone needs over a minute"


def test_an_alias_bomb_is_refused_by_what_it_would_become():
    """Nine levels of nine references: 400 bytes that mean 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(BadDocument) as caught:
        read("\n".join(lines), SourceConfig())
    assert caught.value.reason == "more than 1000000 values, aliases expanded"
    assert caught.value.line == 7


def test_honest_aliases_are_understood():
    assert value("a: &x {n: 1}\nb: *x\nc: &s text\nd: *s\n") == {"a": {"n": 1}, "b": {"n": 1}, "c": "text", "d": "text"}


def test_an_anchor_does_not_outlive_its_document():
    with pytest.raises(BadDocument, match=r"alias \*x"):
        read("a: &x 1\n---\nb: *x\n")


def test_the_good_documents_before_a_fault_are_given():
    seen = []
    with pytest.raises(BadDocument):
        for document in documents("a: 1\n---\nb: 2\n---\nc: [\n", LIMITS):
            seen.append(document.value if document else None)
    assert seen == [{"a": 1}, {"b": 2}]


def test_empty_documents_and_comments_are_no_documents():
    assert read("") == []
    assert read("# only words\n---\n---\n# more\n...\n") == []
    assert [document.line for document in read("---\n\n\na: 1\n---\n# x\nb: 1\n")] == [4, 7]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("No", False), ("on", True), ("y", "y"),
        ("0", 0), ("-7", -7), ("0x1F", 31), ("8080", 8080), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5),
        ("010", "010"), ("1_000", "1_000"), ("12:30", "12:30"), ("2026-01-01", "2026-01-01"), ("1.2.3.4", "1.2.3.4"),
        ("9" * 5000, None), ("-", "-"), ("0x", "0x"), ("nan", "nan"), ("NO", False), ("None", "None"),
    ],
)  # fmt: skip
def test_what_a_plain_scalar_means(text, expected):
    if len(text) > 100:
        assert isinstance(resolve(text), float | str), "no integer of thousands of digits"
    else:
        assert resolve(text) == expected
        assert type(resolve(text)) is type(expected)


def test_quotes_and_tags_make_text():
    assert value("a: '8080'\nb: \"no\"\nc: !!str 1\ne: |\n  3\nf: !!int 4\n") == {
        "a": "8080", "b": "no", "c": "1", "e": "3\n", "f": 4,
    }  # fmt: skip


def test_a_null_entry_counts_as_absent_and_keys_are_text():
    assert value("a: ~\nb:\n1: x\ntrue: y\n~: z\n") == {"1": "x", "true": "y", "~": "z"}


def test_lines_of_fields():
    (document,) = read("---\nspec:\n  ports:\n  - name: a\n    port: 1\n  - name: b\n    port: x\n")
    assert document.line_of(("spec", "ports", 1, "port")) == 7
    assert document.line_of(("spec", "ports", 1)) == 6
    assert document.line_of(("spec", "ports", 1, "targetPort")) == 6, "what is not there is at its parent"
    assert document.line_of(("spec", "ports", 7)) == 3
    assert document.line_of(("metadata", "name")) == 2
    assert document.line_of(()) == 2
    assert document.line_of(("port",), document.value["spec"]["ports"][0], 4) == 5


def test_others_get_a_turn_in_a_large_document():
    text = "\n".join(f"- {number}" for number in range(20_000))
    assert sum(document is None for document in documents(text, SourceConfig())) >= 4


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text(st.characters(exclude_categories=("C", "Z")), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz-/. ~0", max_size=6), inner, max_size=4),
    max_leaves=12,
)


def without_nulls(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: without_nulls(entry) for key, entry in thing.items() if entry is not None}
    return [without_nulls(entry) for entry in thing] if isinstance(thing, list) else thing


class Dumper(yaml.SafeDumper):
    """Quotes what begins like a number: PyYAML takes 0E0 for a text, Kubernetes and we for a number."""

    def represent_text(self, text: str) -> yaml.Node:
        style = '"' if text[:1].isdigit() or text[:1] in "+-." else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


Dumper.add_representer(str, Dumper.represent_text)


@given(plain)
@example("0E0")
def test_json_and_dumped_yaml_come_back(thing):
    for text in (json.dumps(thing, ensure_ascii=False), yaml.dump(thing, Dumper=Dumper, allow_unicode=True)):
        found = [document.value for document in read(text)]
        assert found == ([] if thing is None else [without_nulls(thing)])


@given(st.text(max_size=200) | st.lists(st.sampled_from(list("{}[]&*!|>-?:,'\"\n #ab<~%@")), max_size=60).map("".join))
def test_any_text_is_read_or_refused_with_a_line_that_exists(text):
    try:
        read(text)
        fault = None
    except BadDocument as refusal:
        fault = refusal
    assert fault is None or (fault.reason and 1 <= fault.line <= len(text.splitlines()) + 2)


def test_foreign_text_is_shown_short_and_printable():
    assert shown("a\n\x1b[31m") == "'a\\n\\x1b[31m'"
    assert len(shown("x" * 10_000)) == 80
