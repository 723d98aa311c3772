"""Operators against torch.nn.functional, autograd, and the explicit matrix."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from random_operators import (
    BATCHES,
    DENSE,
    OPERATORS,
    SEEDS,
    TOLERANCE,
    bias_of,
    convolutions,
    explicit,
    random,
    torch_forward,
    weight_of,
)

from neurosim.base.errors import NetworkError
from neurosim.maths.operators.base import Operator
from neurosim.maths.operators.dense import Dense, Identity
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.maths.operators.pooling import Pool
from neurosim.maths.spectrum import spectral_norm


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


@given(operator=OPERATORS, batch=BATCHES, seed=SEEDS)
def test_how_large_a_weight_gradient_can_be(operator: Operator, batch: int, seed: int) -> None:
    """No larger than the product of the norms of what it is made of, as far as windows of a pool
    do not have it several times: that it is finite is said by these."""
    weight = weight_of(operator, seed + 1)
    if weight is None or not operator.sums_products:
        assert weight is None or getattr(operator, "is_soft", False)
        return
    mean, difference = (
        random(seed + n, batch, *s).exp() for n, s in enumerate((operator.pre, operator.post))
    )
    winners = operator.basal(mean, weight, None, None)[1]
    gradient = operator.weight_gradient(difference, mean, winners)
    pool = getattr(operator, "pool", None)
    taps = 1 if pool is None else prod(pool.kernel)
    assert gradient.abs().max() <= taps * difference.norm() * mean.norm() * (1 + 1e-12)


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
