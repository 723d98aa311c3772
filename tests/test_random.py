"""Named random streams: independent of one another, and data when saved."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosim.base.random import stream

SEEDS = st.integers(0, 2**128)
NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=3).map(tuple)


def draws(seed: int, *name: str) -> np.ndarray:
    return stream(seed, *name).integers(0, 2**63, 4)


@given(seed=SEEDS, name=NAMES)
def test_a_stream_is_a_function_of_seed_and_name(seed: int, name: tuple[str, ...]) -> None:
    assert draws(seed, *name).tolist() == draws(seed, *name).tolist()


@given(one=st.tuples(SEEDS, NAMES), two=st.tuples(SEEDS, NAMES))
def test_other_streams_differ(one: tuple[int, tuple], two: tuple[int, tuple]) -> None:
    same = draws(one[0], *one[1]).tolist() == draws(two[0], *two[1]).tolist()
    assert same == (one == two)


def test_the_parts_of_a_name_do_not_run_together() -> None:
    names = [("ab",), ("a", "b"), ("a", "", "b"), ("", "ab"), ("ab", ""), ("a\0b",), ("b", "a")]
    names += [("ä",), ("a", "Ā"), ("",), ("", "")]
    for one, two in combinations(names, 2):
        assert draws(0, *one).tolist() != draws(0, *two).tolist()


def test_streams_are_uncorrelated() -> None:
    count = 20_000
    streams = [stream(s, *name).random(count) for s in (0, 1) for name in [("a",), ("a", "b")]]
    correlation = np.corrcoef(streams)
    assert np.abs(correlation[~np.eye(4, dtype=bool)]).max() < 4.5 / np.sqrt(count)


def test_drawing_from_one_does_not_move_another() -> None:
    first, second = stream(0, "schedule"), stream(0, "noise")
    first.random(1000)
    assert second.random() == stream(0, "noise").random()


def test_the_global_generator_is_not_touched() -> None:
    before = np.random.get_state()[1].tolist()
    stream(0, "schedule").random(10)
    assert np.random.get_state()[1].tolist() == before


@given(seed=SEEDS, skip=st.integers(0, 20))
def test_a_state_is_json_and_comes_back(seed: int, skip: int) -> None:
    generator = stream(seed, "schedule")
    generator.random(skip)
    generator.integers(0, 2**32, dtype=np.uint32)  # leaves half a word in the buffer
    saved = json.loads(json.dumps(generator.bit_generator.state))
    expected = [generator.integers(0, 2**32, 5, dtype=np.uint32), generator.standard_normal(5)]
    other = stream(1, "other")
    other.bit_generator.state = saved
    assert other.integers(0, 2**32, 5, dtype=np.uint32).tolist() == expected[0].tolist()
    assert other.standard_normal(5).tolist() == expected[1].tolist()


def test_a_saved_state_does_not_move_on() -> None:
    generator = stream(0, "schedule")
    saved = generator.bit_generator.state
    expected = generator.random(3).tolist()
    generator.random(100)
    for _ in range(2):
        generator.bit_generator.state = saved
        assert generator.random(3).tolist() == expected


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        stream(-1, "schedule")


def test_public_names_leave_the_users_random_numbers_alone() -> None:
    """Though libraries draw some when they are imported."""
    code = (
        "import random; random.seed(3); before = random.getstate()\n"
        "import neurosim as ns\n"
        "[getattr(ns, name) for name in dir(ns)]\n"
        "assert random.getstate() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
