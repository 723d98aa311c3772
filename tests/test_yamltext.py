"""The YAML dialect: what is read as what, what is refused where, and that writing inverts it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from neurosim.base.errors import DocumentError, Problem
from neurosim.documents import yaml as yamltext
from neurosim.documents.yaml import Document, dumps, loads

SCENARIO = """\
# the default
name: random_order
data: {name: digits, batch_size: 50}
rule:
  kind: dual_propagation
  alpha: 0.5
  "beta": 1.0e-3
probes: [accuracy, 'residual', {kind: wakes, every: 2}]
layers:
  - {name: conv1, conv: 64}
  - name: output
    dense: 10
text: |
  two
  lines
seed: 0
"""


def problem(text: str) -> Problem:
    with pytest.raises(DocumentError) as caught:
        loads(text, "f.yaml")
    (found,) = caught.value.problems
    return found


def same(a: Any, b: Any) -> bool:
    """Equality of values and types, in which nan is equal to nan."""
    return repr(a) == repr(b)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), ("1.e3", 1e3), (".5", 0.5), ("-1e-3", -1e-3), ("1.", 1.0),
        ("+1.5", 1.5), ("1e-400", 0.0), ("-.inf", -math.inf), ("+.Inf", math.inf),
        (".NaN", math.nan), ("0", 0), ("-7", -7), ("+7", 7), ("010", 10), ("0o17", 15),
        ("0x1F", 31), ("1_000", "1_000"), ("1:30", "1:30"), ("0b11", "0b11"), ("-0x1", "-0x1"),
        (".", "."), ("e3", "e3"), ("1e", "1e"), ("\u0661", "\u0661"), ("nan", "nan"),
        ("true", True), ("True", True), ("FALSE", False), ("tRUE", "tRUE"), ("yes", "yes"),
        ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("null", None), ("~", None),
        ("NULL", None), ("nUll", "nUll"), ("''", ""), ("'1'", "1"), ('"true"', "true"),
        ("=", "="), ("'<<'", "<<"), ("'2020-01-01'", "2020-01-01"), ("|\n 1\n", "1\n"),
        ("{a: , b: 1}", {"a": None, "b": 1}), ("on: 1", {"on": 1}), ("? a\n: b", {"a": "b"}),
        ("'<<': 1", {"<<": 1}), ("'1': 2", {"1": 2}), ("---\na: 1\n...\n", {"a": 1}),
        ("\ufeffa: 1", {"a": 1}), ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}), ("[]", []),
    ],
)  # fmt: skip
def test_reads(text: str, value: Any) -> None:
    assert same(loads(text, "f").value, value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "empty"),
        ("# nothing\n", 1, 1, "empty"),
        ("---\n", 1, 1, "empty"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "the key 'a' is already in line 1; remove one"),
        ("a:\n  - {b: 1, b: 2}\n", 2, 12, "the key 'b' is already in line 2"),
        ("a: &x 1\n", 1, 4, "anchors are not supported; remove '&x'"),
        ("&x a: 1\n", 1, 1, "anchors are not supported"),
        ("&x\n", 1, 1, "anchors are not supported"),
        ("a: 1\nb: *a\n", 2, 4, "aliases are not supported; write out what *a"),
        ("*a : 1\n", 1, 1, "aliases are not supported"),
        ("a: &\n", 1, 4, "anchors '&' and aliases '*'"),
        ("a: **\n", 1, 4, "anchors '&' and aliases '*'"),
        ("a: 2020-01-01\n", 1, 4, "'2020-01-01' is a date for other programs; put it into"),
        ("a: 2001-12-14 21:59:43.10 -5\n", 1, 4, "put it into quotes"),
        ("2020-01-01: a\n", 1, 1, "put it into quotes"),
        ("a:\n  <<: {b: 1}\n", 2, 3, "merge keys '<<' are not supported"),
        ("a: !!python/object/apply:os.system ['x']\n", 1, 4, "explicit tags"),
        ("a: !foo 1\n", 1, 4, "explicit tags are not supported; remove the '!...'"),
        ("a: !!str 1\n", 1, 4, "explicit tags"),
        ("a: ! 1\n", 1, 4, "explicit tags"),
        ("a: !e!x 1\n", 1, 4, "explicit tags"),
        ("!!map {a: 1}\n", 1, 1, "explicit tags"),
        ("a: 1\n2: b\n", 2, 1, "the key '2' would be read as 2 (a whole number); put it into"),
        ("1e-3: b\n", 1, 1, "put it into quotes"),
        ("true: b\n", 1, 1, "would be read as true"),
        ("~: b\n", 1, 1, "nothing (null)"),
        ("a: 1\n?\n: b\n", 2, 2, "the key without a name"),
        ("{a: 1}: b\n", 1, 1, "a key must be text"),
        ("? [a]\n: b\n", 1, 3, "a key must be text"),
        ("a: 1\n---\nb: 1\n", 2, 1, "a second document starts here"),
        ("a: 1\n...\nb\n", 3, 1, "does not continue what is above"),
        ("a: 1\nb: x\x00y\n", 2, 5, "U+0000"),
        ("a: \x1b[31m\n", 1, 4, "U+001B"),
        ("a: 1\u2028b: 2\n", 1, 5, "U+2028"),
        ("a: x\x85y\n", 1, 5, "U+0085"),
        ("a: \ud800\n", 1, 4, "U+D800"),
        ("a: x\ufeffy\n", 1, 5, "U+FEFF"),
        ('a: "x\\0y"\n', 1, 4, "U+0000"),
        ('a: "\\ud800"\n', 1, 4, "U+D800"),
        ('a: "\\UFFFFFFFF"\n', 1, 7, "out of range"),
        ('a: "\\U00110000"\n', 1, 7, "out of range"),
        ("%YAML 1" + "1" * 5000 + ".1\n--- a\n", 1, 7, "out of range"),
        ("%YAML 3.0\n--- a\n", 1, 1, "%YAML"),
        ('a: "\\q"\n', 1, 6, "unknown escape"),
        ("a: " + "9" * 5000, 1, 4, "more than 256 bits"),
        ("a: 0x1" + "0" * 64, 1, 4, "more than 256 bits"),
        ("a: 1e999\n", 1, 4, "too large; infinity is written .inf"),
        ("a: b: c\n", 1, 5, "put text that holds ': ' into quotes"),
        ("a:\n\tb: 1\n", 2, 1, "indent with spaces"),
        ("a: @x\n", 1, 4, "put it into quotes"),
        ("a: %x\n", 1, 4, "put it into quotes"),
        ("a: 1\nfoo\n", 2, 1, "neither 'key: value' nor"),
        ("a: 'x\nb: 1\n", 1, 4, "not closed; add the other quote"),
        ("a: {b: 1\nc: 2\n", 2, 2, "the '{' of line 1 is not closed"),
        ("a: 1\nb: [1, 2\n", 3, 1, "the '[' of line 2 is not closed"),
        ("a:\n  - 1\n - 2\n", 3, 2, "check the indentation"),
        (" a: 1\nb: 2\n", 2, 1, "check the indentation"),
        ("a: [1,,2]\n", 1, 7, "a value is missing here"),
        ("a: |x\n  1\n", 1, 5, "not valid YAML here"),
        ("a: - b\n", 1, 4, "a '-' cannot stand here"),
        ("a: ? b\n", 1, 4, "a '?' cannot stand here"),
        ('a: "\\xzz"\n', 1, 7, "unknown escape"),
        ("a: 1\n'b'\nc: 2\n", 2, 1, "neither 'key: value' nor"),
        ("a: 1\n...\n[\n", 3, 1, "does not continue what is above"),
        ("[" * 5000, 1, 34, "nested more than 32 deep"),
        ("- " * 5000, 1, 67, "nested more than 32 deep"),
        ("{a: " * 5000, 1, 133, "nested more than 32 deep"),
        ("\n".join(" " * i + "a:" for i in range(50)), 34, 34, "nested more than 32 deep"),
        ("? " * 5000, 1, 3, "a key must be text"),
        ("x" * (yamltext.MAX_BYTES + 1), 1, 1, "larger than"),
    ],
)  # fmt: skip
def test_refuses(text: str, line: int, column: int, message: str) -> None:
    found = problem(text)
    assert (found.file, found.line, found.column) == ("f.yaml", line, column), found
    assert message in found.message
    assert len(found.message) < 200


def test_refuses_too_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamltext, "MAX_NODES", 5)
    assert loads("[1, 2, 3, 4]", "f").value == [1, 2, 3, 4]
    found = problem("- 1\n- 2\n- 3\n- 4\n- 5\n")
    assert (found.line, found.column) == (5, 3)
    assert "more than 5 values" in found.message


def test_reads_as_deep_as_it_may() -> None:
    text = "[" * yamltext.MAX_DEPTH + "1" + "]" * yamltext.MAX_DEPTH
    document = loads(text, "f")
    assert loads(dumps(document.value), "f").value == document.value


def test_positions() -> None:
    document = loads(SCENARIO, "s.yaml")
    for path, key, value in [
        ((), (2, 1), (2, 1)),
        (("rule",), (4, 1), (5, 3)),
        (("rule", "beta"), (7, 3), (7, 11)),
        (("probes", 2, "every"), (8, 46), (8, 53)),
        (("layers", 1), (11, 5), (11, 5)),
        (("layers", 1, "dense"), (12, 5), (12, 12)),
        (("text",), (13, 1), (13, 7)),
    ]:
        assert document.position(path, key=True) == ("s.yaml", *key), path
        assert document.position(path) == ("s.yaml", *value), path
    assert document.position(("rule", "gamma", 3), key=True) == ("s.yaml", 5, 3)
    assert document.position(("nothing",)) == ("s.yaml", 2, 1)
    assert (
        str(document.problem(("layers", 1, "dense"), "no")) == "s.yaml:12:12: layers[1].dense: no"
    )
    assert Document("<dict>", {"a": 1}).position(("a",)) == ("<dict>", 1, 1)


def test_a_part_names_its_place_in_the_whole() -> None:
    part = loads(SCENARIO, "s.yaml").part(("probes", 2))
    assert part.value == {"kind": "wakes", "every": 2}
    assert str(part.problem(("every",), "no")) == "s.yaml:8:53: probes[2].every: no"
    assert str(part.problem((), "no")) == "s.yaml:8:32: probes[2]: no"
    with pytest.raises(LookupError):
        part.part(("nothing",))


@pytest.mark.parametrize(
    ("path", "shown"),
    [((), ""), (("a", 0, "b->c"), "a[0].b->c"), ((0, "a"), "[0].a"), (("a", "b.c"), "a['b.c']")],
)
def test_shows_paths(path: yamltext.NodePath, shown: str) -> None:
    assert yamltext.show_path(path) == shown


# ---- writing -----------------------------------------------------------------------------------

characters = st.characters(exclude_categories=["Cs"]).filter(
    lambda c: not yamltext.FORBIDDEN.match(c)
)
words = st.sampled_from(
    ["yes", "no", "1e-3", "2020-01-01", "010", "~", ".5", "", "<<", "=", "0o7", "1_0", "1:30", "-",
     "null", "true", ".inf", "# a", "a: b", "a #", "- a", "---", "...", "!x", "&a", "*a", "@", "%",
     "'", '"', " a", "a ", "a\n", "\na", "a\n\n b", "a\r\nb", "\t", "?", "? a", ":", "{", "[a]"]
)  # fmt: skip
texts = st.one_of(words, st.text(characters, max_size=20))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**256) + 1, 2**256 - 1), st.floats(), texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(values)
@example([1e-05, 5e-324, 1e16, 1e22, -0.0, math.inf, -math.inf, math.nan, 1.0])
@example({"x" * 500: "y " * 500, "a\nb": [[], {}, [[]], [{}]]})
def test_writing_inverts_reading(value: Any) -> None:
    assert same(loads(dumps(value), "f").value, value)


def test_writes_for_people() -> None:
    shared = [1, 2]
    value = {"name": "übung", "lr": 0.001, "a": shared, "b": shared, "no": "yes", "e": "1e-3"}
    expected = "name: übung\nlr: 0.001\na:\n- 1\n- 2\nb:\n- 1\n- 2\n'no': 'yes'\ne: '1e-3'\n"
    assert dumps(value) == expected
    assert dumps((1, 2)) == "- 1\n- 2\n"


@pytest.mark.parametrize("value", [{1: 2}, object(), {"a": {1, 2}}, b"x", {"a": SCENARIO.encode}])
def test_writes_plain_data_only(value: Any) -> None:
    with pytest.raises(TypeError, match="not plain data"):
        dumps(value)


def test_writes_no_control_characters() -> None:
    with pytest.raises(ValueError, match=r"U\+001B"):
        dumps({"a": "\x1b[31m"})


# ---- damage ------------------------------------------------------------------------------------


def check_damaged(text: str) -> None:
    """Reading gives data that can be written again, or a problem inside of the text."""
    try:
        document = loads(text, "f")
    except DocumentError as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        for found in error.problems:
            assert 1 <= found.line <= lines + 1
            assert 1 <= found.column <= len(text) + 1
            assert found.message
    else:
        assert same(loads(dumps(document.value), "f").value, document.value)
        assert document.marks


syntax = st.sampled_from(
    [*"{}[]:,-?#&*!|>'\"%@`\n\r\t ~<=.\\0aé\x00\ufeff", ": ", "- ", "--- ", "\\x"]
)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=60), st.lists(syntax, max_size=30).map("".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    check_damaged(text)


edits = st.lists(
    st.tuples(st.integers(0, len(SCENARIO)), st.integers(0, 3), syntax | st.just("")),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=300)
@given(edits)
def test_any_damage_is_read_or_refused(edits: list[tuple[int, int, str]]) -> None:
    text = SCENARIO
    for at, removed, added in edits:
        text = text[:at] + added + text[at + removed :]
    check_damaged(text)
