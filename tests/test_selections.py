"""What operators compute for some dyads is what they compute for all of them."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from random_operators import (
    BATCHES,
    CPU,
    DENSE,
    IDENTITY,
    SEEDS,
    SHAPES,
    channel_selection,
    check_selection,
    convolutions,
    pool_projections,
    position_selection,
    random,
    some_of,
)

from neurosim.maths.operators.base import COLUMN_GATHER_COST, ROW_GATHER_COST, Operator, gather_pays
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.tensors import Tape
from neurosim.tensors.order import by_position
from neurosim.tensors.selection import Selection, Shape

# ---- selections --------------------------------------------------------------------------------


@given(operator=DENSE | IDENTITY, batch=BATCHES, seed=SEEDS)
def test_flat_selections(operator: Operator, batch: int, seed: int) -> None:
    post = Selection(operator.post, some_of(prod(operator.post), seed), CPU)
    pre = Selection(operator.pre, some_of(prod(operator.pre), seed + 1), CPU)
    check_selection(operator, post, pre, batch, seed)


@given(
    operator=st.one_of(convolutions(), pool_projections(), DENSE, IDENTITY),
    batch=BATCHES,
    seed=SEEDS,
)
def test_channel_selections(operator: Operator, batch: int, seed: int) -> None:
    assume(len(operator.pre) == len(operator.post) == 3)
    post = channel_selection(operator.post, some_of(operator.post[0], seed))
    pre = channel_selection(operator.pre, some_of(operator.pre[0], seed + 1))
    if isinstance(operator, Conv2d | Pool2d):
        assert operator.forward_selects(post, batch)
        assert operator.adjoint_selects(pre, batch)
    check_selection(operator, post, pre, batch, seed)


@given(
    operator=st.one_of(convolutions(), pool_projections(), DENSE, IDENTITY),
    batch=BATCHES,
    seed=SEEDS,
)
def test_position_selections(operator: Operator, batch: int, seed: int) -> None:
    assume(len(operator.pre) == len(operator.post) == 3)
    post = position_selection(operator.post, some_of(prod(operator.post[1:]), seed))
    pre = position_selection(operator.pre, some_of(prod(operator.pre[1:]), seed + 1))
    check_selection(operator, post, pre, batch, seed)


@given(shape=SHAPES, seed=SEEDS, batch=BATCHES, order=st.sampled_from([torch.clone, by_position]))
def test_take_put_and_narrow(shape: Shape, seed: int, batch: int, order: Any) -> None:
    array = order(random(seed, batch, *shape))
    flat = Selection(shape, some_of(prod(shape), seed), CPU)
    assert torch.equal(flat.take(array), array.flatten(1)[:, flat.dyads])
    values = random(seed + 1, *flat.take(array).shape)
    expected = array.flatten(1).clone()
    expected[:, flat.dyads] = values
    flat.put(array, values)
    assert torch.equal(array.flatten(1), expected)
    mask = np.random.default_rng(seed).random(flat.count) < 0.5
    assert flat.narrow(mask).dyads.tolist() == flat.dyads[mask].tolist()
    if len(shape) == 3:
        channels = some_of(shape[0], seed)
        chosen = channel_selection(shape, channels)
        assert torch.equal(chosen.take(array), array[:, channels])
        values = random(seed + 2, *chosen.take(array).shape)
        chosen.put(array, values)
        assert torch.equal(array[:, channels], values)
        mask = np.zeros(chosen.count, dtype=bool)
        mask[-1] = True  # one dyad of the last channel asks for the whole of it
        narrow = chosen.narrow(mask)
        assert narrow.whole == "channels"
        assert narrow.dyads.tolist() == chosen.dyads.tolist()[-prod(shape[1:]) :]


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    seed=SEEDS,
    batch=BATCHES,
    order=st.sampled_from([torch.clone, by_position]),
)
def test_positions(shape: Shape, seed: int, batch: int, order: Any) -> None:
    array, positions = order(random(seed, batch, *shape)), some_of(prod(shape[1:]), seed)
    chosen = position_selection(shape, positions)
    assert torch.equal(chosen.take(array), array.flatten(2)[:, :, positions])
    values = random(seed + 2, *chosen.take(array).shape)
    expected = array.flatten(2).clone()
    expected[:, :, positions] = values
    chosen.put(array, values)
    assert torch.equal(array.flatten(2), expected)
    mask = np.zeros(chosen.count, dtype=bool)
    mask[-1] = True  # one dyad of the last position asks for the whole of it
    narrow = chosen.narrow(mask)
    assert narrow.whole == "positions"
    assert narrow.dyads.tolist() == position_selection(shape, positions[-1:]).dyads.tolist()


def test_the_cost_model() -> None:
    for batch, cost in product([1, 10, 1000], [ROW_GATHER_COST, COLUMN_GATHER_COST]):
        pays = [gather_pays(n, 1000, batch, cost) for n in range(1, 1001)]
        assert pays == sorted(pays, reverse=True)
        assert not pays[-1]  # never for all dyads
        assert pays[0]
    assert gather_pays(500, 1000, 1000, ROW_GATHER_COST)
    assert not gather_pays(500, 1000, 1, ROW_GATHER_COST)


@pytest.mark.parametrize("order", [torch.clone, by_position])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int64])
def test_whole_channels_are_written_by_any_library(order: Any, dtype: torch.dtype) -> None:
    """What a tape sees is written by torch, and what has no dtype of numpy."""
    chosen, array = (
        channel_selection((6, 4, 5), np.array([1, 2, 5])),
        order(torch.zeros(3, 6, 4, 5)),
    )
    array, values = array.to(dtype), (10 * random(1, 3, 3, 4, 5)).to(dtype)
    chosen.put(array, values)
    assert torch.equal(chosen.take(array), values)
    assert array.count_nonzero() == values.count_nonzero()
    assert array.stride() == order(torch.zeros(3, 6, 4, 5)).stride()
    tape = Tape([x := torch.ones(3, 3, 4, 5)])
    with tape:
        left = torch.zeros(3, 6, 4, 5) * x.sum()
        chosen.put(left, x)
    tape.close(left)
    assert torch.equal(tape.replay([2 * x])[:, [1, 2, 5]], 2 * x)


@given(shape=SHAPES, seed=SEEDS)
def test_numbers_of_a_map(shape: Shape, seed: int) -> None:
    """They expand to those of all selected dyads, whatever is selected, and of whatever map."""
    whole = random(seed, *shape)
    selections = [Selection(shape, some_of(prod(shape), seed), CPU)]
    if len(shape) == 3:
        selections.append(channel_selection(shape, some_of(shape[0], seed)))
        selections.append(position_selection(shape, some_of(prod(shape[1:]), seed)))
    for numbers in (whole, whole[0]) if len(shape) == 3 else (whole,):
        for selection in selections:
            expected = selection.take(numbers.expand(shape)[None])[0]
            assert torch.equal(selection.of_map(numbers).expand(expected.shape), expected)
