"""What a sweep is over: how values are split and read, their product, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosim.base.errors import DocumentError
from neurosim.runs.axes import combinations, read_axes, split_values

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0,1,2", ["0", "1", "2"]),
        ("0", ["0"]),
        (" 0.1 , 1e-3 ", ["0.1", "1e-3"]),
        ("[1, 2],[3]", ["[1, 2]", "[3]"]),
        ("{kind: a, std: 1},null", ["{kind: a, std: 1}", "null"]),
        ("{a: [1, {b: 2, c: 3}]},{}", ["{a: [1, {b: 2, c: 3}]}", "{}"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("'it''s, so',c", ["'it''s, so'", "c"]),
        ('"a\\",b",c', ['"a\\",b"', "c"]),
        ("['a]', b],c", ["['a]', b]", "c"]),
        ("it's,b", ["it's", "b"]),  # a quote within a word is a sign like any other
        ("1,", ["1", ""]),
        ("", [""]),
    ],
)
def test_splitting(text: str, parts: list[str]) -> None:
    assert split_values(text) == parts


@given(st.lists(PLAIN, min_size=1, max_size=5))
def test_values_come_back_from_any_yaml(values: list[Any]) -> None:
    """JSON is YAML: whatever commas, brackets and quotes are in the values, they stay together."""
    texts = [json.dumps(value) for value in values]
    assert split_values(",".join(texts)) == texts
    if len({json.dumps(value, sort_keys=True) for value in values}) == len(values):
        (axis,) = read_axes([f"key={','.join(texts)}"])
        assert list(axis.values) == values
        assert axis.swept == (len(values) > 1)


def test_the_product_in_the_order_given() -> None:
    axes = read_axes(["b=1,2", "a=x", "c.d[0]={e: 1},[2, 3]"])
    assert [axis.key for axis in axes] == ["b", "a", "c.d[0]"]
    assert list(combinations(axes)) == [
        ("1", "x", "{e: 1}"),
        ("1", "x", "[2, 3]"),
        ("2", "x", "{e: 1}"),
        ("2", "x", "[2, 3]"),
    ]
    assert list(combinations([])) == [()]


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["seed"], "in the argument 'seed': write it as key.path=value1,value2"),
        (["0.5},"], "write it as key.path=value1,value2, and in quotes where it has spaces"),
        (["=1,2"], "write it as key.path=value1,value2"),
        (["seed="], "there is no value after '='"),
        (["seed=  "], "there is no value after '='"),
        (["seed=1,,2"], "a value is missing between two commas or at the end"),
        (["seed=1,2,"], "a value is missing between two commas or at the end"),
        (["seed=1,2,1"], "the value 1 is there twice"),
        (["rule={a: 1},{a: 1}"], "the value {a: 1} is there twice"),
        (["seed=1,[2"], "is not closed"),
        (["seed=1,*x"], "aliases are not supported"),
        (["seed=1", "seed=2"], "argument 1 gives 'seed' already; write all values in one"),
        (["layers[0].x=1", "layers.0.x=2"], "argument 1 gives 'layers.0.x' already"),
    ],
)
def test_refuses(assignments: list[str], said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_axes(assignments)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"<command line>:{len(assignments)}:1: in the argument ")


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(DocumentError) as caught:
        read_axes(["seed", "name=a,b", "x=1,,2"])
    assert [problem.line for problem in caught.value.problems] == [1, 3]


@pytest.mark.parametrize(
    ("text", "values"),
    [("1..3", ("1", "2", "3")), ("0..1..0.5", ("0", "0.5", "1")), ("1...3", ("1...3",))],
)
def test_a_range_has_two_dots(text: str, values: tuple[str, ...]) -> None:
    (axis,) = read_axes([f"key={text}"])
    assert axis.texts == values
