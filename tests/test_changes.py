"""What has changed: against torch's own comparing and counting."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neurosim.tensors import by_position, changes

SHAPES = [(1, 1), (3, 7), (100, 8), (300, 16), (2, 3, 4, 4), (260, 8, 2, 2), (5, 3, 5, 5)]


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("shape", SHAPES)
def test_as_torch_has_it(shape: tuple[int, ...]) -> None:
    new, old = drawn(shape, 0), drawn(shape, 1)
    for known in (old, None):
        mask = changes.unequal(new, known)
        assert mask.dtype == torch.bool
        assert torch.equal(mask, new != (torch.zeros_like(new) if known is None else known))
        assert changes.count(mask) == mask.sum()
        weights = torch.arange(mask[0].numel()).view(shape[1:]) + 1
        if len(shape) == 4:  # some positions of all channels, as a tile selects them
            some = mask.flatten(2).movedim(2, 0).contiguous().movedim(0, 2)
            expected = int(mask.sum()), int((mask * weights).sum())
            assert changes.tally(some, weights.flatten(1)) == expected
        for last in range(1, len(shape)):  # of every value, and the same for some of them
            some = weights[(0,) * (len(shape) - 1 - last)]
            for stored in (mask, by_position(mask), mask.mT.contiguous().mT):
                found = changes.tally(stored, some)
                assert found == (int(mask.sum()), int((mask * some).sum()))


@pytest.mark.parametrize("batch", [1, 254, 255, 256, 511, 1021])
def test_every_sample_is_counted(batch: int) -> None:
    mask, weights = torch.ones(batch, 3, 4, 2, dtype=torch.bool), torch.arange(8).view(4, 2)
    for stored in (mask, by_position(mask)):
        assert changes.tally(stored, weights) == (24 * batch, 3 * 28 * batch)


def test_arrays_that_are_not_contiguous() -> None:
    new, old = drawn((6, 16), 0), drawn((16, 6), 1).T
    mask = changes.unequal(new, old)
    weights = torch.arange(6)
    assert changes.tally(mask.T, weights) == (int(mask.sum()), int((mask.T * weights).sum()))
    row = drawn((1, 16), 0).expand(6, -1)
    assert torch.equal(changes.unequal(row, new), row != new)


def test_zeros_infinities_and_nothing() -> None:
    values = torch.tensor([[0.0, -0.0], [math.nan, math.inf]])
    assert changes.unequal(values, None).tolist() == [[False, False], [True, True]]
    assert changes.unequal(values, values).tolist() == [[False, False], [True, False]]
    assert not changes.any_nonzero(values[:1])
    assert changes.any_nonzero(values)  # the first sample alone has none
    assert changes.any_nonzero(values.flip(0))
    assert changes.any_nonzero(torch.full((2, 2), 5e-324, dtype=torch.float64))
    assert not changes.any_nonzero(torch.zeros(3, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_elsewhere_answers_stay_tensors(dtype: torch.dtype) -> None:
    values = torch.zeros(4, 8, dtype=dtype, device="meta")
    mask = changes.unequal(values, values)
    tallied = changes.tally(mask, torch.ones(8, dtype=torch.int64, device="meta"))
    found = (mask, changes.count(mask), *tallied, changes.any_nonzero(values))
    assert all(isinstance(one, Tensor) and one.is_meta for one in found)


@pytest.mark.parametrize("turned", [False, True])
def test_how_many_values_differ(turned: bool) -> None:
    """Whatever the order of either array; NaN differs from itself, and the zeros do not."""
    one = torch.randn(4, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    one[0, 0, 0, :3] = torch.tensor([0.0, -0.0, torch.nan])
    other = one.clone()
    other[:, 1] += 1.0
    other[0, 0, 0, :2] = torch.tensor([-0.0, 0.0])
    if turned:
        one = by_position(one)
    assert changes.differing(one, other) == changes.differing(other, one) == 4 * 5 * 7 + 1
    assert changes.differing(one, by_position(other)) == 4 * 5 * 7 + 1
    assert changes.differing(one, None) == one.numel() - 2
    assert changes.differing(one[0, 0], one[0, 0] + 1.0) == 5 * 7


@pytest.mark.parametrize("shape", [(3, 50), (9, 1200)])
def test_what_is_surely_finite(shape: tuple[int, int]) -> None:
    """Never a product that is not, whatever its factors; and whatever is far from that."""
    draws, known = torch.Generator().manual_seed(0), 0
    for exponent in range(-10, 39):
        one, other = (torch.randn(shape, generator=draws).abs() + 0.5 for _ in range(2))
        factors = one * 10.0**exponent, other * 10.0 ** (exponent % 7)
        product = factors[0].T @ factors[1]
        sure = changes.surely_finite(product, factors)
        assert not sure or product.isfinite().all()
        assert sure or exponent > 8
        known += sure
        assert changes.surely_finite(product) == (float(product.double().norm()) < 1e16)
    assert 15 <= known <= 30
    assert not changes.surely_finite(torch.ones(2, 2), (torch.tensor([torch.nan]),))
    broken = torch.ones(9, 9)
    broken[4, 4] = torch.nan
    assert not changes.surely_finite(broken)
    assert changes.surely_finite(broken, ())  # both factors are known


def test_nothing_is_sure_of_other_devices_and_complex_values() -> None:
    assert not changes.surely_finite(torch.ones(2, device="meta"))
    assert not changes.surely_finite(torch.ones(9), (torch.ones(2, dtype=torch.complex64),))
