"""Operators of any geometry, and the same by torch.nn.functional and as an explicit matrix."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from neurosim.base.errors import NetworkError
from neurosim.maths.operators.base import Operator
from neurosim.maths.operators.dense import Dense, Identity
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.maths.operators.pooling import Pool
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
    kind = draw(st.sampled_from(["max", "avg", "softmax"]))
    gain = 2.5 if kind == "softmax" else 1.0
    return Pool(kind, kernel, draw(pairs(1, 3)), padding, gain=gain)


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
    if pool.kind == "softmax":
        sizes = {"kernel_size": pool.kernel, "stride": pool.stride}
        margins = [side for size in reversed(pool.padding) for side in (size, size)]
        under, score = (
            F.unfold(F.pad(array, margins, value=value), **sizes).unflatten(1, (array.shape[1], -1))
            for value in (0.0, -torch.inf)
        )
        found = (under * (pool.gain * score).softmax(2)).sum(2)
        return found.unflatten(2, pool.windows(array.shape[1:]).output)
    function = F.max_pool2d if pool.kind == "max" else F.avg_pool2d
    return function(array, pool.kernel, pool.stride, pool.padding)


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
        operator = replace(operator, pool=replace(operator.pool, kind="avg", gain=1.0))
    shape = operator.weight_shape
    weight = None if shape is None else torch.ones(shape, dtype=torch.float64)
    mean = torch.zeros(1, *operator.pre, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch_forward(operator, x, weight), mean
    )
    return jacobian.reshape(prod(operator.post), prod(operator.pre))


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
        torch.testing.assert_close(won, post.take(winners), **TOLERANCE)
    back = operator.apical(difference, weight, winners, None)
    some = operator.apical(difference, weight, winners, pre)
    torch.testing.assert_close(some, pre.take(back), **TOLERANCE)
