"""Units: which dyads wake together, against loops over (c, h, w)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, strategies as st

import neurosim as ns
from neurosim.schedules.units import WHOLE, Layout, Unit

KINDS = ["neuron", "channel", "column", "tile", "block", "population"]
SHAPES = st.tuples(st.integers(1, 150)) | st.tuples(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)
)


@st.composite
def units(draw: st.DrawFn) -> Unit:
    kind = draw(st.sampled_from(KINDS))
    size = draw(st.none() | st.integers(1, 7)) if kind in ("tile", "block") else None
    return Unit(kind, size)


def groups(unit: Unit, shape: tuple[int, ...]) -> list[set[int]]:
    """The units of a population one by one: sets of flat indices, in the order of their keys."""
    found: dict[Any, set[int]] = {}
    for flat, index in enumerate(np.ndindex(*shape)):
        size = unit.size or {"tile": 4, "block": 64}.get(unit.kind, 0)
        if len(shape) == 1 and unit.kind == "tile":
            size = 64  # of the block that a tile becomes: its edge says nothing about dyads
        key: Any
        match unit.kind, len(shape):
            case "neuron", _:
                key = flat
            case "population", _:
                key = 0
            case ("block", _) | ("tile", 1):
                key = flat // size
            case "channel", _:
                key = index[0]
            case "column", _:
                key = index[1:]
            case "tile", _:
                key = (index[1] // size, index[2] // size)
        if unit.kind == "column" and len(shape) == 1:
            key = 0
        found.setdefault(key, set()).add(flat)
    return [found[key] for key in sorted(found)]


@pytest.mark.parametrize("kind", KINDS)
@given(size=st.none() | st.integers(1, 7), shape=SHAPES)
def test_membership(kind: Any, size: int | None, shape: tuple[int, ...]) -> None:
    unit = Unit(kind, size if kind in ("tile", "block") else None)
    population = ns.Population("p", shape)
    membership = unit.membership(population)
    assert membership.dtype == np.int64
    expected = np.empty(population.size, dtype=np.int64)
    for number, dyads in enumerate(groups(unit, shape)):
        expected[sorted(dyads)] = number
    assert membership.tolist() == expected.tolist()


def test_tiles_that_do_not_divide_the_plane() -> None:
    """Tiles of 2x2 on 3x5, all conv channels together: six tiles, row by row."""
    membership = Unit("tile", 2).membership(ns.Population("p", (2, 3, 5))).reshape(2, 3, 5)
    plane = [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert membership.tolist() == [plane, plane]


def test_default_sizes() -> None:
    assert Unit("tile").on(ns.Population("p", (1, 9, 9))) == Unit("tile", 4)
    assert Unit("block").on(ns.Population("p", (100,))) == Unit("block", 64)
    assert Unit("tile", 3).on(ns.Population("p", (100,))) == Unit("block", 64)
    assert Unit("block", 3).on(ns.Population("p", (1, 9, 9))) == Unit("block", 3)
    assert Unit.of("tile") == Unit("tile")
    assert Unit.of(Unit("tile", 3)) == Unit("tile", 3)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("neurons", None, "kind is 'neurons'; it must be one of 'neuron', 'channel', 'column'"),
        ("neuron", 2, "unit 'neuron' with size 2: only a tile or a block has one"),
        ("population", 64, "unit 'population' with size 64"),
        ("tile", 0, "size is 0; it must be at least 1"),
        ("block", -1, "size is -1; it must be at least 1"),
    ],
)
def test_units_that_cannot_be(kind: Any, size: int | None, message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        Unit(kind, size)


# ---- the numbering over a network --------------------------------------------------------------


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """A network whose populations are declared out of order."""
    populations = [
        ns.Population(f"h{i}", shape)
        for i, shape in enumerate(draw(st.lists(SHAPES, min_size=1, max_size=3)))
    ]
    names = ["input", *[p.name for p in populations], "output"]
    edges = [{"from": a, "to": b} for a, b in pairwise(names)]
    declared: list[tuple[str, dict[str, Any]]] = [("input", {"shape": 2, "role": "input"})]
    declared += [(p.name, {"shape": list(p.shape), "bias": False}) for p in populations]
    declared += [("output", {"shape": draw(st.integers(1, 9)), "role": "output"})]
    description = {"populations": dict(draw(st.permutations(declared))), "projections": edges}
    return Layout(ns.Network.from_dict(description), draw(units()))


def all_units(layout: Layout) -> list[tuple[int, set[int]]]:
    """Every unit of the network: (population index, its dyads)."""
    return [
        (index, dyads)
        for index, population in enumerate(layout.populations)
        for dyads in groups(layout.unit, population.shape)
    ]


@given(layout=layouts())
def test_numbering(layout: Layout) -> None:
    expected = all_units(layout)
    assert layout.names == [p.name for p in layout.network.dyadic]
    assert layout.total == len(expected)
    assert layout.population_of.tolist() == [p for p, _ in expected]
    assert layout.counts.tolist() == [
        sum(p == q for p, _ in expected) for q in range(len(layout.names))
    ]
    assert layout.offsets.tolist() == [0, *np.cumsum(layout.counts).tolist()]


@given(layout=layouts(), data=st.data())
def test_split_dyads_units_and_selection(layout: Layout, data: st.DataObject) -> None:
    expected = all_units(layout)
    chosen = data.draw(st.sets(st.integers(0, layout.total - 1)))
    parts = layout.split(np.array(sorted(chosen), dtype=np.int64))
    again: set[int] = set()
    populations = [p for p, _ in parts]
    assert populations == sorted({expected[unit][0] for unit in chosen})
    for index, own in parts:
        population = layout.populations[index]
        numbers = own + layout.offsets[index]
        again |= set(numbers.tolist())
        union = sorted(set().union(*[expected[unit][1] for unit in numbers.tolist()]))
        dyads = layout.dyads(index, own)
        if len(union) == population.size:
            assert dyads is None
            continue
        assert dyads is not None
        assert dyads.tolist() == union
        selection = layout.selection(index, own, None, torch.device("cpu"))
        assert selection is not None
        array = torch.arange(population.size).view(1, *population.shape)
        assert sorted(selection.take(array).flatten().tolist()) == union
        whole = WHOLE.get(layout.unit.kind) if len(population.shape) == 3 else None
        assert selection.whole == whole
        marks = np.zeros(population.size, dtype=bool)
        marks[union] = True
        assert layout.units(index, marks).tolist() == numbers.tolist()
    assert again == chosen


@given(layout=layouts(), data=st.data())
def test_units_of_any_dyads(layout: Layout, data: st.DataObject) -> None:
    """A unit is reached if any of its dyads is."""
    index = data.draw(st.integers(0, len(layout.populations) - 1))
    size = layout.populations[index].size
    reached = data.draw(st.sets(st.integers(0, size - 1), max_size=5))
    marks = np.zeros(size, dtype=bool)
    marks[sorted(reached)] = True
    expected = [n for n, (p, own) in enumerate(all_units(layout)) if p == index and own & reached]
    assert layout.units(index, marks).tolist() == expected


@given(layout=layouts())
def test_all_units_are_all_dyads(layout: Layout) -> None:
    assume(layout.total)
    everything = layout.split(np.arange(layout.total))
    assert [p for p, _ in everything] == list(range(len(layout.names)))
    assert all(layout.dyads(p, units) is None for p, units in everything)
    assert layout.split(np.empty(0, dtype=np.int64)) == []
