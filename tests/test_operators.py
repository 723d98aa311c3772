"""Operators against torch.nn.functional, autograd, and the explicit matrix."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from neurosim.base.errors import NetworkError
from neurosim.maths.operators.base import COLUMN_GATHER_COST, ROW_GATHER_COST, Operator, gather_pays
from neurosim.maths.operators.dense import Dense, Identity
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.maths.operators.sliding import Pool
from neurosim.maths.spectrum import spectral_norm
from neurosim.tensors.order import by_position
from neurosim.tensors.selection import Selection, Shape

CPU = torch.device("cpu")
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}

# ---- operators of any geometry -----------------------------------------------------------------


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


SHAPES = st.tuples(st.integers(1, 12)) | st.tuples(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)
)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    kernel = draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return Pool(draw(st.sampled_from(["max", "avg"])), kernel, draw(pairs(1, 3)), padding)


@st.composite
def convolutions(draw: st.DrawFn, *, pooled: bool | None = None) -> Conv2d:
    """Kernels of any shape, even ones too, and paddings that may exceed them."""
    pre = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
    conv = Conv2d(
        pre,
        (draw(st.integers(1, 3)), 1, 1),
        draw(pairs(1, 4)),
        draw(pairs(1, 3)),
        draw(pairs(0, 2) | st.just((3, 4))),
    )
    with_pool = draw(st.booleans()) if pooled is None else pooled
    conv = replace(conv, pool=draw(pools()) if with_pool else None)
    try:
        return replace(conv, post=conv.output_shape)
    except NetworkError:
        assume(False)
        raise


@st.composite
def pool_projections(draw: st.DrawFn) -> Pool2d:
    pre = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
    pool = draw(pools())
    try:
        return Pool2d(pre, pool.output(pre), pool)
    except NetworkError:
        assume(False)
        raise


DENSE = st.builds(Dense, SHAPES, SHAPES)
IDENTITY = SHAPES.map(lambda shape: Identity(shape, shape))
OPERATORS = st.one_of(
    DENSE, convolutions(pooled=False), convolutions(pooled=True), pool_projections(), IDENTITY
)
SEEDS = st.integers(0, 2**16)
BATCHES = st.integers(1, 3)


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def weight_of(operator: Operator, seed: int = 0) -> Tensor | None:
    return None if operator.weight_shape is None else random(seed, *operator.weight_shape)


def bias_of(operator: Operator, seed: int = 0) -> Tensor:
    """One value per dyad of (N,), one per conv channel of (C, H, W)."""
    return random(seed, operator.post[0])


def torch_pool(pool: Pool, array: Tensor) -> Tensor:
    function = F.max_pool2d if pool.kind == "max" else F.avg_pool2d
    return function(array, pool.kernel, pool.stride, pool.padding)


@given(
    channels=st.integers(1, 20),
    size=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    padded=st.booleans(),
    kind=st.sampled_from(["normal", "ties", "lost"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_max_pooling_is_that_of_torch_bit_for_bit(
    channels: int, size: tuple[int, int], padded: bool, kind: str, dtype: torch.dtype, seed: int
) -> None:
    """However the array is laid out meanwhile: the first of equals wins, what is lost spreads."""
    generator = torch.Generator().manual_seed(seed)
    array = torch.randn(3, channels, *size, generator=generator).to(dtype)
    if kind == "ties":
        array = array.round()
    elif kind == "lost":
        array[array > 1] = torch.nan
        array[array < -1] = -torch.inf
    pool = Pool("max", padding=(1, 1) if padded else (0, 0))
    expected, places = F.max_pool2d(
        array, pool.kernel, pool.stride, pool.padding, return_indices=True
    )
    pooled, winners = pool.forward(array)
    assert winners is not None
    assert pooled.is_contiguous()
    assert winners.is_contiguous()
    assert torch.equal(winners, places)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=0, equal_nan=True)
    pooled, winners = pool.forward(array.requires_grad_())  # as autograd has it
    assert winners is not None
    assert torch.equal(winners, places)


def torch_forward(operator: Operator, mean: Tensor, weight: Tensor | None) -> Tensor:
    """What torch's own functions make of it, without a bias."""
    match operator:
        case Dense():
            assert weight is not None
            return (mean.flatten(1) @ weight.T).view(-1, *operator.post)
        case Conv2d():
            assert weight is not None
            conv = F.conv2d(mean, weight, None, operator.stride, operator.padding)
            return conv if operator.pool is None else torch_pool(operator.pool, conv)
        case Pool2d():
            return torch_pool(operator.pool, mean)
        case Identity():
            return mean
    raise AssertionError


def explicit(operator: Operator) -> Tensor:
    """|Jacobian| of all synapses (post, pre), with positive weights, so that nothing cancels.

    An average stands for every pooling: a maximum has synapses with its whole window.
    """
    if isinstance(operator, Conv2d | Pool2d) and operator.pool is not None:
        operator = replace(operator, pool=replace(operator.pool, kind="avg"))
    shape = operator.weight_shape
    weight = None if shape is None else torch.ones(shape, dtype=torch.float64)
    mean = torch.zeros(1, *operator.pre, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch_forward(operator, x, weight), mean
    )
    return jacobian.reshape(prod(operator.post), prod(operator.pre))


# ---- forward, adjoint, weight gradient ---------------------------------------------------------


@given(operator=OPERATORS, batch=BATCHES, seed=SEEDS)
def test_forward(operator: Operator, batch: int, seed: int) -> None:
    mean, weight = random(seed, batch, *operator.pre), weight_of(operator, seed + 1)
    kept = mean.clone()
    found, winners = operator.basal(mean, weight, None, None)
    expected = torch_forward(operator, mean, weight)
    assert tuple(found.shape) == (batch, *operator.post) == (batch, *operator.output_shape)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert (winners is not None) == operator.has_winners
    assert torch.equal(mean, kept)


@given(operator=OPERATORS, batch=BATCHES, seed=SEEDS)
def test_bias(operator: Operator, batch: int, seed: int) -> None:
    """It is no part of what an average over the padding is taken of."""
    mean, weight = random(seed, batch, *operator.pre), weight_of(operator, seed + 1)
    bias = bias_of(operator, seed + 2)
    without, _ = operator.basal(mean, weight, None, None)
    found, _ = operator.basal(mean, weight, bias, None)
    shaped = bias if len(operator.post) == 1 else bias[:, None, None]
    torch.testing.assert_close(found, without + shaped, **TOLERANCE)


@given(operator=OPERATORS, batch=BATCHES, seed=SEEDS)
def test_adjoint_and_weight_gradient(operator: Operator, batch: int, seed: int) -> None:
    """Both are what autograd makes of torch's own functions at the same point."""
    mean = random(seed, batch, *operator.pre).requires_grad_()
    weight = weight_of(operator, seed + 1)
    wanted = [mean] if weight is None else [mean, weight.requires_grad_()]
    difference = random(seed + 2, batch, *operator.post)
    expected = torch.autograd.grad(torch_forward(operator, mean, weight), wanted, difference)
    with torch.no_grad():
        _, winners = operator.basal(mean, weight, None, None)
        found = operator.apical(difference, weight, winners, None)
        assert tuple(found.shape) == (batch, *operator.pre)
        torch.testing.assert_close(found, expected[0], **TOLERANCE)
        if weight is not None:
            gradient = operator.weight_gradient(difference, mean, winners)
            assert tuple(gradient.shape) == operator.weight_shape
            torch.testing.assert_close(gradient, expected[1], **TOLERANCE)


@pytest.mark.parametrize(
    "operator", [Identity((3,), (3,)), Pool2d((1, 4, 4), (1, 2, 2), Pool("max"))]
)
def test_no_weight_no_gradient(operator: Operator) -> None:
    assert operator.weight_shape is None
    assert operator.fans == (0, 0)
    ones = torch.ones(1, *operator.post)
    with pytest.raises(NetworkError, match=f"{type(operator).__name__} has no weight"):
        operator.weight_gradient(ones, ones, None)


def test_winners_are_those_of_the_forward_pass() -> None:
    """The difference goes back to the winner, not to what is largest elsewhere or later."""
    conv = Conv2d((1, 2, 2), (1, 1, 1), (1, 1), (1, 1), (0, 0), Pool("max"))
    weight = torch.tensor([[[[2.0]]]])
    _, winners = conv.basal(torch.tensor([[[[1.0, 5.0], [3.0, 4.0]]]]), weight, None, None)
    back = conv.apical(torch.tensor([[[[0.5]]]]), weight, winners, None)
    assert back.tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]
    later = torch.tensor([[[[9.0, 7.0], [3.0, 4.0]]]])
    assert conv.weight_gradient(torch.tensor([[[[0.5]]]]), later, winners).item() == 3.5


def test_identity_makes_copies() -> None:
    operator = Identity((2,), (2,))
    array = torch.tensor([[1.0, 2.0]])
    for copy in (
        operator.basal(array, None, None, None)[0],
        operator.apical(array, *[None] * 3),
    ):
        copy += 1.0
    assert array.tolist() == [[1.0, 2.0]]


# ---- selections --------------------------------------------------------------------------------


def some_of(size: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.sort(generator.permutation(size)[: generator.integers(1, size + 1)])


def channel_selection(shape: Shape, channels: np.ndarray) -> Selection:
    area = prod(shape[1:])
    dyads = (channels[:, None] * area + np.arange(area)).reshape(-1)
    return Selection(shape, dyads, CPU, "channels")


def position_selection(shape: Shape, positions: np.ndarray) -> Selection:
    area = prod(shape[1:])
    dyads = (np.arange(shape[0])[:, None] * area + positions).reshape(-1)
    return Selection(shape, dyads, CPU, "positions")


def check_selection(
    operator: Operator, post: Selection, pre: Selection, batch: int, seed: int
) -> None:
    """Computing a selection is taking it from what is computed for all."""
    mean, weight = random(seed, batch, *operator.pre), weight_of(operator, seed + 1)
    bias, difference = bias_of(operator, seed + 2), random(seed + 3, batch, *operator.post)
    dense, winners = operator.basal(mean, weight, bias, None)
    found, won = operator.basal(mean, weight, bias, post)
    torch.testing.assert_close(found, post.take(dense), **TOLERANCE)
    if winners is not None:
        assert won is not None
        assert torch.equal(won, post.take(winners))
    back = operator.apical(difference, weight, winners, None)
    some = operator.apical(difference, weight, winners, pre)
    torch.testing.assert_close(some, pre.take(back), **TOLERANCE)


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


# ---- structure ---------------------------------------------------------------------------------


@given(operator=OPERATORS, seed=SEEDS)
def test_reach(operator: Operator, seed: int) -> None:
    matrix = explicit(operator) != 0
    generator = np.random.default_rng(seed)
    for sent_share in (0.0, 0.1, 0.5):
        pre = torch.from_numpy(generator.random(operator.pre) < sent_share)
        reached = operator.forward_reach(pre)
        assert tuple(reached.shape) == operator.post
        exact = matrix[:, pre.flatten()].any(1).view(operator.post)
        assert torch.equal(reached, exact)
        post = torch.from_numpy(generator.random(operator.post) < sent_share)
        reached = operator.backward_reach(post)
        assert tuple(reached.shape) == operator.pre
        exact = matrix[post.flatten()].any(0).view(operator.pre)
        assert torch.equal(reached, exact)


@given(operator=OPERATORS)
def test_fan_out(operator: Operator) -> None:
    """Synapses (pre dyad, conv output): a receiver that pools has those of its whole window."""
    before = explicit(operator.unpooled) != 0
    forward = torch.as_tensor(operator.forward_fan_out()).expand(operator.pre)
    assert forward.flatten().tolist() == before.sum(0).tolist()
    synapses = before.sum(1)
    if isinstance(operator, Conv2d) and operator.pool is not None:
        windows = explicit(Pool2d(operator.middle, operator.post, operator.pool)) != 0
        synapses = windows.long() @ synapses
    backward = torch.as_tensor(operator.backward_fan_out()).expand(operator.post)
    assert backward.flatten().tolist() == synapses.tolist()


@pytest.mark.parametrize(
    ("operator", "fans"),
    [
        (Dense((2, 3, 4), (5,)), (24, 5)),
        (Conv2d((3, 8, 8), (16, 8, 8)), (27, 144)),
        (Conv2d((3, 8, 8), (4, 7, 6), (2, 3), (1, 1), (0, 0)), (18, 24)),
    ],
)
def test_fans(operator: Operator, fans: tuple[int, int]) -> None:
    assert operator.fans == fans


# ---- spectral norm -----------------------------------------------------------------------------


@given(operator=DENSE | convolutions(), seed=SEEDS)
def test_spectral_norm(operator: Operator, seed: int) -> None:
    """The largest singular value of the explicit matrix, without the pooling."""
    weight = weight_of(operator, seed)
    plain = operator.unpooled
    mean = torch.zeros(1, *plain.pre, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda x: torch_forward(plain, x, weight), mean)
    matrix = matrix.reshape(prod(plain.post), prod(plain.pre))
    expected = torch.linalg.matrix_norm(matrix, 2).item()
    assert spectral_norm(operator, weight) == pytest.approx(expected, rel=1e-12)


def test_spectral_norm_of_a_row_orthogonal_to_the_start() -> None:
    """The power iteration starts from (1, …, 2); a weight with W·start = 0 is not zero."""
    weight = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    assert spectral_norm(Dense((2,), (1,)), weight) == pytest.approx(5.0**0.5, rel=1e-12)


def test_spectral_norm_of_zeros() -> None:
    assert spectral_norm(Dense((3,), (2,)), torch.zeros(2, 3)) == 0.0
